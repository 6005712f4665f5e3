"""What a long run says where its output is no terminal."""

from __future__ import annotations

import logging

import pytest

from astrolabel.core import progress
from astrolabel.core.progress import Progress, steps


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_come_now_and_then_without_carriage_returns(clock, capsys):
    with Progress(100, "tiles", "tile") as bar:
        for _ in range(100):
            clock[0] += 2
            bar.update(note="a: 3 labels")
    printed = capsys.readouterr().err
    assert "\r" not in printed
    lines = printed.splitlines()
    # After 5 s, then every 30 s of 200 s, then the end.
    assert lines[0] == "tiles: 3/100 tiles, 6 s, 3 min to go; a: 3 labels"
    assert len(lines) == 1 + 6 + 1
    assert lines[-1] == "tiles: 100/100 tiles, 3 min"


def test_a_short_run_says_one_line_and_a_silent_one_none(clock, capsys):
    assert list(steps(iter("abc"), 3, "coadds", "coadd")) == ["a", "b", "c"]
    assert capsys.readouterr().err == "coadds: 3/3 coadds, 0 s\n"
    assert list(steps("abc", 3, "coadds", "coadd", shown=False)) == ["a", "b", "c"]
    with Progress(5, "tiles", "tile", done=5):
        pass
    assert capsys.readouterr().err == ""


def test_what_an_earlier_run_did_does_not_count_as_speed(clock):
    bar = Progress(20, "tiles", "tile", done=10, shown=False)
    clock[0] = 50.0
    bar.update(5)
    assert bar.line() == "tiles: 15/20 tiles, 50 s, 50 s to go"


def test_every_step_is_in_the_log(clock, caplog):
    caplog.set_level(logging.DEBUG, "astrolabel")
    with Progress(2, "tiles", "tile", shown=False) as bar:
        bar.update(note="a: 3 labels")
        bar.update(note="b: 4 labels")
    assert "tiles: a: 3 labels" in caplog.messages
    assert "tiles: 2/2 tiles, 0 s" in caplog.messages


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with Progress(2, "tiles", "tile") as bar:
        bar.update(2)
    assert "2/2" in capsys.readouterr().err


def test_compilation_is_said_once(monkeypatch, capsys):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(progress._Compiling, "said", False)
    progress.say_when_compiling()
    for k in range(2):
        numba.njit(lambda x, k=k: x + k)(1)
    assert capsys.readouterr().err.count("first run: compiling") == 1
