import os
import stat

import pytest

from astrolabel.core.errors import InputError, OutputError
from astrolabel.core.files import atomic_path, below, write_bytes


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


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../a", "a/../../b", "a/..", "..", "", ".", "a\x00b", "a\nb", "a\\b", "C:/a",
     "\ud800", "x" * 300, "y/" * 3000, None, 3, ["a"]],
)  # fmt: skip
def test_a_name_that_leaves_its_folder_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(InputError) as caught:
        below(tmp_path, name, file="m.yaml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("m.yaml: the file name")
    str(caught.value).encode()  # printable whatever the name was


def test_a_name_below_a_folder_is_its_path(tmp_path):
    for name in ("a.fits", "a/b,c/d (1).fits", "гало.png", "a/..b", "./a"):
        assert below(tmp_path, name) == tmp_path / name


def test_a_link_out_of_the_folder_is_refused_unless_it_is_only_read(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    (tmp_path / "in" / "self").symlink_to(tmp_path / "in")
    with pytest.raises(InputError, match="by a link"):
        below(tmp_path / "in", "out/a")
    assert below(tmp_path / "in", "out/a", links=True) == tmp_path / "in/out/a"
    assert below(tmp_path / "in", "self/a") == tmp_path / "in/self/a"
