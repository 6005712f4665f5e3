"""Commands played in processes of their own, which are limited, killed, or have no room to write.

A process costs more than most commands that fail. So many that need no limits of their own are
played in one, which a crash or a hang of one of them ends; the others go on in the next.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

LIMIT_S = 60
"""Of processor time."""
CLOCK_S = 5 * LIMIT_S
"""By the clock, for the machine may be busy."""
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


class _TooLong(BaseException):
    """The time of a command is over."""


_one_of_many = False
"""Whether this process plays commands one after another."""


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
    if _one_of_many and limits == NONE:
        return _at_once(call, log)
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _play(call, log, limits)
    end, worker = began + (limits.kill_after_s or CLOCK_S), limits.worker_after_s
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


def played_together(plays: Sequence[Callable[[], str]]) -> list[str]:
    """The outcomes of calls of `played` and what is done around them, many in a process."""
    found: list[str] = []
    while len(found) < len(plays):
        found += _batch(plays[len(found) :])
    return found


def _batch(plays: Sequence[Callable[[], str]]) -> list[str]:
    """Outcomes until the first that ended the process, which is the last then."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _play_in_turn(plays, writing)
    os.close(writing)
    found: list[str] = []
    with os.fdopen(reading) as lines:
        while len(found) < len(plays):
            if not select.select([reading], [], [], 2 * CLOCK_S)[0]:
                os.kill(child, signal.SIGKILL)
                found.append("hang")
                break
            line = lines.readline()
            if not line:
                found.append("crash")
                break
            found.append(line.strip())
    os.waitpid(child, 0)
    return found


def _play_in_turn(plays: Sequence[Callable[[], str]], writing: int) -> None:
    """The child: never returns."""
    global _one_of_many
    _one_of_many = True
    _limit_memory()
    for timer in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(timer, _too_long)
    _without_waits()
    try:
        for play in plays:
            os.write(writing, f"{play()}\n".encode())
    finally:
        os._exit(0)


def _too_long(*_: object) -> None:
    raise _TooLong


def _at_once(call: Call, log: Path) -> str:
    """`played` in this process."""
    with (
        log.open("w", errors="replace") as stream,
        redirect_stdout(stream),
        redirect_stderr(stream),
    ):
        signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
        signal.setitimer(signal.ITIMER_REAL, CLOCK_S)
        try:
            code = call()
        except _TooLong:
            return "hang"
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
    return verdict(code, log.read_text(errors="replace"))


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
    try:
        _limit(limits)
        _without_waits()
        code = call()
    except BaseException:  # the child's end, whatever it is
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _limit(limits: Limits) -> None:
    _limit_memory()
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S + 5))
    if limits.file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes,) * 2)
    if limits.unprivileged:
        header = (ctypes.c_uint32 * 2)(CAPABILITIES, 0)
        ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)())


def _limit_memory() -> None:
    held = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (held + LIMIT_BYTES, resource.RLIM_INFINITY))


def _without_waits() -> None:
    """Servers are asked again at once."""
    from astrolabel.datasets.archive.client import Client

    def wait(self: Client, seconds: float) -> None:
        pass

    Client.wait = wait  # type: ignore[method-assign]
