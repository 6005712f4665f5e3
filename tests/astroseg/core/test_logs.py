"""Messages where the output is no terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from astroseg.core import progress
from astroseg.core.errors import OutputError
from astroseg.core.logs import logger, logging_to


def test_progress_is_a_line_every_so_often(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    with progress.Progress(4, "step", quiet=False) as steps:
        steps.note("loss 0.5")
        steps.advance()
        steps.advance(2)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(", about")[0] for line in lines] == [
        "step 1 of 4, loss 0.5",
        "step 3 of 4, loss 0.5",
    ]
    assert not any("\r" in line for line in lines)


def test_progress_is_silent_between_and_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with progress.Progress(9, "image", quiet=quiet) as images:
            images.advance()
    assert capsys.readouterr().err == ""


def test_a_file_keeps_what_the_terminal_does_not_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path / "logs" / "run.log", quiet=True):
        logger.debug("detail")
        logger.warning("beware")
        logger.warning("%s", "beware")
    assert capsys.readouterr().err == "beware\n"
    text = (tmp_path / "logs" / "run.log").read_text()
    assert "detail" in text
    assert "WARNING beware" in text
    assert text.count("beware") == 1
    assert not logger.handlers
    (tmp_path / "taken").write_text("")
    taken = logging_to(tmp_path / "taken" / "x.log")
    with pytest.raises(OutputError, match="cannot be written"), taken:
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_written_to_where_something_reads_it_and_refused_elsewhere(
    tmp_path: Path,
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    alone = logging_to(pipe, quiet=True)
    with pytest.raises(OutputError, match="nothing reads"), alone:
        pass
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with logging_to(pipe, quiet=True):
        logger.debug("detail")
    assert b"detail" in os.read(reader, 1000)
    os.close(reader)
    with logging_to(Path(os.devnull), quiet=True):
        logger.debug("detail")
