"""The device that a model runs on."""

from __future__ import annotations

import os

import torch

from astroseg.core.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" takes this process's GPU where there is one.

    Raises
    ------
    InputError
        For a name that is none, or a GPU that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"unknown device {name!r}", remedy="use auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise InputError(
                f"there is no device {name} (torch sees {torch.cuda.device_count()} GPUs)",
                remedy="use --device cpu, or install torch for your GPU and its driver",
            )
        torch.cuda.set_device(device)
    _check_works(device)
    return device


def _check_works(device: torch.device) -> None:
    """Raise InputError for a device that this torch or this machine has not."""
    try:
        torch.zeros(1, device=device).item()
    # What absent backends raise: AssertionError, ImportError, NotImplementedError and others.
    except Exception as error:
        raise InputError(
            f"the device {device} does not work here ({' '.join(str(error).split())[:100]})",
            remedy="use --device cpu, or a torch that supports it",
        ) from error
