import hashlib
import os
import re
import stat

import pytest

from astrolabel.core import files
from astrolabel.core.errors import InputError, OutputError
from astrolabel.core.files import atomic_path, below, file_hash, regular_size, write_bytes


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


def test_the_temporary_name_is_known_to_what_clears_it(tmp_path):
    with atomic_path(tmp_path / "a.json") as temporary:
        assert re.fullmatch(r"\.[0-9a-f]{8}\.a\.json", temporary.name)
        temporary.touch()


@pytest.mark.skipif(os.name != "posix", reason="folders are flushed there")
def test_the_contents_reach_the_disk_before_the_name_and_then_the_folder(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files, "_flush", lambda path: flushed.append((path.name, path.exists())))
    write_bytes(tmp_path / "a.json", b"x")
    (first, there), folder = flushed
    assert first.endswith(".a.json")
    assert there
    assert folder == (tmp_path.name, True)


def test_what_goes_wrong_before_anything_is_written_is_said_as_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a.json"):
        raise ZeroDivisionError
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["a", "\ud7ff", "\ue000", "\U0001f30c", " ", "é.fits"])
def test_a_name_of_any_script_is_taken(tmp_path, name):
    assert below(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize("code", [0, 31, 127, 92, 0xD800, 0xDFFF])
def test_a_character_that_cannot_be_shown_is_refused(tmp_path, code):
    with pytest.raises(InputError, match="cannot be shown"):
        below(tmp_path, f"a{chr(code)}b")


@pytest.mark.parametrize(("length", "shown"), [(77, 77), (78, 75), (79, 75), (100, 75)])
def test_a_long_name_is_cut_in_the_message(tmp_path, length, shown):
    """79 characters with both quotes are shown; of 80 the first 76, one of them a quote."""
    with pytest.raises(InputError) as caught:
        below(tmp_path, "/" + "x" * (length - 1))
    text = "/" + "x" * (shown - 1) + ("'" if shown == length else "...")
    assert f"the file name '{text} leads" in str(caught.value)


def test_only_a_file_has_a_size(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"four")
    assert regular_size(path) == 4
    with pytest.raises(InputError, match="is a folder") as caught:
        regular_size(tmp_path)
    assert caught.value.file == str(tmp_path)
    for name, said in (("none", "no such file"), ("a/b", "no file"), ("a\0b", "no file")):
        with pytest.raises(InputError, match=said) as caught:
            regular_size(tmp_path / name)
        assert caught.value.file == ascii(str(tmp_path / name))[1:-1]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_has_no_size(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe, socket or device"):
        regular_size(tmp_path / "pipe")


def test_a_file_that_cannot_be_read_has_no_hash(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    assert file_hash(path) == hashlib.sha256(b"x").hexdigest()

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refused)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied"):
        file_hash(path)
