"""A command played in a process of its own, which is limited, killed, or has no room to write."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

LIMIT_S = 60
"""Of processor time; by the clock five times as long, for the machine may be busy."""
LIMIT_BYTES = 4 << 30
"""Memory that a command may ask for."""
CAPABILITIES = 0x20080522
"""Version of Linux's structure of capabilities, of two times three words."""
LIBRARIES = ("matplotlib.pyplot", "pycocotools.mask", "pyarrow.parquet", "requests", "mocpy",
             "astrolabel.label.pipeline", "astrolabel.report", "astrolabel.export.convert",
             "astrolabel.datasets.build", "astrolabel.datasets.split")  # fmt: skip
TORCH = ("torch", "torchvision", "astroseg.inference.predict", "astroseg.evaluation.report")

Call = Callable[[], int]


@dataclass(frozen=True)
class Limits:
    """What a process may not do, and when it is killed.

    Attributes
    ----------
    kill_after_s : seconds by the clock; 0: never.
    worker_after_s : the same, of one process below it; 0: never.
    file_bytes : no file may grow beyond these; 0: no limit.
    unprivileged : whether it may do no more than the modes of files allow, also as root (Linux).
    """

    kill_after_s: float = 0
    worker_after_s: float = 0
    file_bytes: int = 0
    unprivileged: bool = False


NONE = Limits()


def import_ahead(modules: Sequence[str]) -> None:
    """Import what commands import, so that no process of its own has to again."""
    for module in modules:
        with suppress(ImportError):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a child would copy all pages of what it inherits


def command(words: list[str]) -> Call:
    """A command of either program."""
    if words[0] != "astroseg":
        from astrolabel.cli.main import main as astrolabel

        return partial(astrolabel, words)
    from astroseg.cli.main import main as astroseg

    return partial(astroseg, words[1:])


def played(call: Call, log: Path, limits: Limits = NONE) -> str:
    """Run a command in a process of its own: ``ok``, ``told``, ``killed``, or what no input may
    cause: ``traceback``, ``crash``, ``hang``."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _play(call, log, limits)
    end, worker = began + (limits.kill_after_s or 5 * LIMIT_S), limits.worker_after_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return verdict(os.waitstatus_to_exitcode(status), log.read_text(errors="replace"))
        if worker and time.monotonic() > began + worker:
            worker = 0
            _kill_worker(child)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "killed" if limits.kill_after_s else "hang"


def verdict(code: int, text: str) -> str:
    if "Traceback" in text:
        return "traceback"
    return {0: "ok", 2: "told", -signal.SIGXCPU: "hang"}.get(code, "crash")


def _kill_worker(parent: int) -> None:
    with suppress(psutil.Error):
        for process in psutil.Process(parent).children(recursive=True):
            if "LokyProcess" in " ".join(process.cmdline()):
                process.kill()
                return


def _play(call: Call, log: Path, limits: Limits) -> None:
    """The child: never returns."""
    with log.open("w") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.stdout = open(1, "w", closefd=False, errors="replace")  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, errors="replace")  # noqa: SIM115
    held = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (held + LIMIT_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 5))
    if limits.file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes,) * 2)
    if limits.unprivileged:
        header = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
        ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)())
    try:
        _without_waits()
        code = call()
    except BaseException:  # the child's end, whatever it is
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _without_waits() -> None:
    """Servers are asked again at once."""
    from astrolabel.datasets.archive.client import Client

    def wait(self: Client, seconds: float) -> None:
        pass

    Client.wait = wait  # type: ignore[method-assign]
