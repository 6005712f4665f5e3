"""Several processes that train one model: torchrun's environment, gradients averaged.

Gradients are averaged after the backward pass instead of by a wrapper around the model. So
an engine calls what it likes on a bare model, parts of a batch may leave some parameters
without a gradient, and accumulation needs no special case. The step is the same as of
one process with the whole batch, but for each process sampling its own proposals.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from astroseg.core.errors import InputError

# Rank 0 validates while the others wait.
TIMEOUT = timedelta(hours=2)


@dataclass(frozen=True)
class Group:
    """This process among those that train together."""

    rank: int = 0
    ranks: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, in one message."""
        if self.ranks == 1:
            return
        chosen = [p for p in parameters if p.requires_grad]
        parts = [
            (torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in chosen
        ]
        flat = torch.cat(parts)
        distributed.all_reduce(flat)
        flat /= self.ranks
        for p, part in zip(chosen, flat.split([p.numel() for p in chosen]), strict=True):
            p.grad = part.view_as(p).to(p.dtype)

    def average(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of a tensor over the processes."""
        if self.ranks > 1:
            values = values.clone()
            distributed.all_reduce(values)
            values /= self.ranks
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is up in any process."""
        if self.ranks == 1:
            return flag
        value = torch.tensor(float(flag), device=device)
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return bool(value.item())

    def wait(self) -> None:
        """Until all processes are here."""
        if self.ranks > 1:
            distributed.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun's environment describes; alone without it."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks == 1:
        yield Group()
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=TIMEOUT)
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def amp_dtype(name: str, device: torch.device) -> torch.dtype | None:
    """Type of mixed precision by name, None for none.

    "auto" is bf16 on GPUs that have it, whose range needs no scaling of the loss, else
    fp16, and nothing on CPUs.
    """
    if name == "auto":
        if device.type != "cuda":
            return None
        # Older GPUs (V100, T4) only emulate bfloat16, slowly, and torch says they support it.
        name = "bf16" if torch.cuda.get_device_capability(device)[0] >= 8 else "fp16"
    if name == "fp16" and device.type != "cuda":
        raise InputError("fp16 needs a GPU", remedy="use --amp off or bf16")
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
