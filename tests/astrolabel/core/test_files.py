import os
import stat

import pytest

from astrolabel.core.errors import OutputError
from astrolabel.core.files import atomic_path, write_bytes


def names(folder):
    return [path.name for path in folder.iterdir()]


def interrupted_write(path):
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"ne")
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.json"
    write_bytes(target, b"old")
    with pytest.raises(KeyboardInterrupt):
        interrupted_write(target)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


def test_missing_folders_are_made_and_the_old_file_replaced(tmp_path):
    target = tmp_path / "deep" / "er" / "a.json"
    write_bytes(target, b"one")
    write_bytes(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(target.parent) == ["a.json"]


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    with atomic_path(tmp_path / "cube.fits.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".fits.gz")
        temporary.write_bytes(b"x")


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_the_file_has_the_mode_that_the_umask_asks_for(tmp_path):
    old = os.umask(0o022)
    try:
        write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    target = tmp_path / "file" / "a.json"
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_bytes(target, b"x")
    assert caught.value.file == str(target)
    assert caught.value.remedy


def test_a_folder_in_the_files_place_is_named(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_bytes(tmp_path / "a.json", b"x")
    assert names(tmp_path) == ["a.json"]
