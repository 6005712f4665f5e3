"""Files are written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from astroseg.core.errors import InputError, OutputError
from astroseg.core.files import atomic_path, read_json, write_json, write_rows


def test_failed_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, [1])

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert read_json(target) == [1]
    assert list(tmp_path.iterdir()) == [target]


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"a\.json: cannot be written"):
        write_json(tmp_path / "file" / "a.json", {})


def test_numbers_of_numpy_and_nan_become_plain_json(tmp_path: Path) -> None:
    value = {
        "score": np.float32(0.1),
        "ids": np.arange(2),
        "nan": float("nan"),
        "inf": np.float32("inf"),
        "path": tmp_path,
    }
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "score": 0.1,
        "ids": [0, 1],
        "nan": None,
        "inf": None,
        "path": str(tmp_path),
    }


def test_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not text"):
        read_json(tmp_path / "a.json")


def test_a_file_is_as_open_as_the_user_makes_files(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "private.bin") as temporary:
        temporary.write_bytes(b"weights")
        temporary.chmod(0o600)  # as safetensors leaves it
    (tmp_path / "plain").touch()
    assert (tmp_path / "private.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_rows_one_by_one_are_the_list_as_it_is_written_whole(tmp_path: Path) -> None:
    for rows in ([], [{"a": 1.5}], [{"a": np.float32(0.1)}, {"a": float("nan")}, [2]]):
        write_json(tmp_path / "whole.json", rows)
        write_rows(tmp_path / "rows.json", iter(rows))
        text = (tmp_path / "rows.json").read_text()
        assert text == (tmp_path / "whole.json").read_text()
        assert len(json.loads(text)) == len(rows)
