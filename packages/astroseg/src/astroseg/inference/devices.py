"""One prediction on several devices: a process for each, on tiles of its own."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """Which of all work one of several processes does: each `of`-th piece, from `number` on."""

    number: int = 0
    of: int = 1

    def take(self, pieces: Sequence[T]) -> Sequence[T]:
        """Its pieces of all."""
        return pieces[self.number :: self.of]


class Helpers:
    """Processes on all devices but the first, which is left to the one that starts them.

    Parameters
    ----------
    devices : names, the first of which has share 0.
    work : a function of a module, called as ``work(*words, device, share)``.
    words : what can be pickled.
    """

    def __init__(
        self, devices: Sequence[str], work: Callable[..., Any], words: Sequence[Any]
    ) -> None:
        self._devices = devices
        context = multiprocessing.get_context("spawn")
        self._processes = [
            context.Process(
                target=_begin,
                args=(torch.get_num_threads(), work, (*words, device, Share(k, len(devices)))),
                daemon=True,
            )
            for k, device in enumerate(devices)
            if k > 0
        ]

    def __enter__(self) -> Share:
        for process in self._processes:
            process.start()
        return Share(0, len(self._devices))

    def __exit__(self, kind: Any, *rest: Any) -> None:
        """Wait for the others, or end them where this process failed."""
        for process, device in zip(self._processes, self._devices[1:], strict=True):
            if kind is not None:
                process.terminate()
            process.join()
            if kind is None and process.exitcode:
                logger.warning(
                    "the process on %s ended early (exit code %d); %s does what it left",
                    device, process.exitcode, self._devices[0],
                )  # fmt: skip


def _begin(threads: int, work: Callable[..., Any], words: Sequence[Any]) -> None:
    """A process: as many threads as the first one's, on which rounding depends, and no words."""
    torch.set_num_threads(threads)
    logging.getLogger("astroseg").setLevel(logging.CRITICAL)
    work(*words)
