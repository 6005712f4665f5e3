"""Downloads: whole, verified, resumed; every fault told and none left behind."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import pytest
from web_helpers import CONTENT, SHA, Server, server

from astroseg.core.errors import InputError, OutputError
from astroseg.weights.download import CACHE_VARIABLE, cache_folder, fetch

__all__ = ["server"]


WHOLE = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(CONTENT[::-1]).hexdigest()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_file_comes_whole_and_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url, tmp_path / "new" / "folder", SHA, quiet=True)
    assert path.name == "net-abc.pth"
    assert path.read_bytes() == CONTENT
    assert fetch(server.url, tmp_path / "new" / "folder", SHA, quiet=True) == path
    assert server.asked == [""]
    assert names(path.parent) == {"net-abc.pth", "net-abc.pth.json"}
    record = json.loads((path.parent / "net-abc.pth.json").read_text())
    whole = hashlib.sha256(CONTENT).hexdigest()
    assert record == {"url": server.url, "sha256": whole, "bytes": len(CONTENT)}


@pytest.mark.parametrize("ranges", [True, False])
def test_broken_download_goes_on_where_it_broke(
    server: Server, tmp_path: Path, ranges: bool
) -> None:
    server.cut_after = 100_000
    with pytest.raises(InputError, match=f"100000 of {len(CONTENT)} bytes, which are kept"):
        fetch(server.url, tmp_path, SHA, quiet=True)
    assert names(tmp_path) == {"net-abc.pth.part", "net-abc.pth.part.etag"}
    server.cut_after, server.ranges, server.sent = -1, ranges, 0
    assert fetch(server.url, tmp_path, SHA, quiet=True).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=100000-"]
    assert server.sent == len(CONTENT) - (100_000 if ranges else 0)
    assert names(tmp_path) == {"net-abc.pth", "net-abc.pth.json"}


def test_file_that_changed_between_two_runs_is_never_mixed(server: Server, tmp_path: Path) -> None:
    server.cut_after = 100_000
    with pytest.raises(InputError):
        fetch(server.url, tmp_path, quiet=True)
    server.cut_after, server.etag, server.content = -1, '"two"', CONTENT[::-1]
    path = fetch(server.url, tmp_path, trusted=OTHER, quiet=True)
    assert path.read_bytes() == CONTENT[::-1]


def test_server_that_names_no_version_is_asked_for_the_whole_file(
    server: Server, tmp_path: Path
) -> None:
    server.cut_after, server.etag = 100_000, ""
    with pytest.raises(InputError):
        fetch(server.url, tmp_path, quiet=True)
    server.cut_after = -1
    assert fetch(server.url, tmp_path, SHA, quiet=True).read_bytes() == CONTENT
    assert server.asked == ["", ""]


def test_part_of_another_file_is_begun_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net-abc.pth.part").write_bytes(b"x" * 1000)
    (tmp_path / "net-abc.pth.part.etag").write_text('"one"')
    assert fetch(server.url, tmp_path, SHA, quiet=True).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", ""]


def test_part_beyond_the_end_is_begun_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net-abc.pth.part").write_bytes(CONTENT + b"more")
    (tmp_path / "net-abc.pth.part.etag").write_text('"one"')
    assert fetch(server.url, tmp_path, SHA, quiet=True).read_bytes() == CONTENT


def test_answer_of_another_part_than_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net-abc.pth.part").write_bytes(CONTENT[:1000])
    (tmp_path / "net-abc.pth.part.etag").write_text('"one"')
    server.shift = 7
    with pytest.raises(InputError, match="another part than asked for"):
        fetch(server.url, tmp_path, SHA, quiet=True)
    assert not (tmp_path / "net-abc.pth").exists()


@pytest.mark.parametrize("digest", ["sha256:0676ba61", "md5:f10217"])
def test_wrong_content_is_refused_and_not_kept(server: Server, tmp_path: Path, digest: str) -> None:
    server.content = b"<html>please log in</html>"
    with pytest.raises(InputError, match=f"{digest} does not begin its hash; see whether a proxy"):
        fetch(server.url, tmp_path, digest, quiet=True)
    assert not names(tmp_path)


def test_published_md5_is_held_to(server: Server, tmp_path: Path) -> None:
    digest = "md5:" + hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()[:6]
    assert fetch(server.url, tmp_path, digest, quiet=True).read_bytes() == CONTENT


def test_file_of_an_unknown_hash_is_kept_but_not_used(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(InputError, match=f"not published.* --weights-sha256 {WHOLE}"):
            fetch(server.url, tmp_path, quiet=True)
        assert names(tmp_path) == {"net-abc.pth.unverified"}
    path = fetch(server.url, tmp_path, trusted=WHOLE.upper(), quiet=True)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == {"net-abc.pth", "net-abc.pth.json"}
    assert fetch(server.url, tmp_path, quiet=True) == path  # trusted once
    assert server.asked == [""]


def test_file_of_another_hash_than_the_users_is_fetched_anew_and_refused(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(InputError):
        fetch(server.url, tmp_path, quiet=True)
    with pytest.raises(InputError, match=f"sha256:{OTHER} does not begin its hash"):
        fetch(server.url, tmp_path, trusted=OTHER, quiet=True)
    assert names(tmp_path) == set()
    server.content = CONTENT[::-1]
    path = fetch(server.url, tmp_path, trusted=OTHER, quiet=True)
    with pytest.raises(InputError, match=f"sha256:{WHOLE} does not begin its hash"):
        fetch(server.url, tmp_path, trusted=WHOLE, quiet=True)
    assert path.read_bytes() == CONTENT[::-1]


def test_users_hash_counts_before_a_published_one_and_must_be_whole(
    server: Server, tmp_path: Path
) -> None:
    server.content = CONTENT[::-1]
    path = fetch(server.url, tmp_path, SHA, trusted=OTHER, quiet=True)
    assert path.read_bytes() == CONTENT[::-1]
    with pytest.raises(InputError, match="'abc' is not a whole SHA-256"):
        fetch(server.url, tmp_path, SHA, trusted="abc", quiet=True)


def test_file_put_there_by_hand_without_a_hash_wants_one(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net-abc.pth").write_bytes(CONTENT)
    with pytest.raises(InputError, match=f"--weights-sha256 {WHOLE}"):
        fetch(server.url, tmp_path, quiet=True)
    assert fetch(server.url, tmp_path, trusted=WHOLE, quiet=True).read_bytes() == CONTENT
    assert server.asked == []


def test_accepted_file_is_held_to_what_came_first(server: Server, tmp_path: Path) -> None:
    path = fetch(server.url, tmp_path, trusted=WHOLE, quiet=True)
    path.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(InputError, match="has changed since it was downloaded; delete it"):
        fetch(server.url, tmp_path, quiet=True)
    path.unlink()
    assert fetch(server.url, tmp_path, quiet=True).read_bytes() == CONTENT


def test_file_that_comes_again_must_be_the_one_that_came_first(
    server: Server, tmp_path: Path
) -> None:
    fetch(server.url, tmp_path, SHA, quiet=True).unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(InputError, match=r"does not begin its hash.*publisher changed it"):
        fetch(server.url, tmp_path, SHA, quiet=True)
    (tmp_path / "net-abc.pth.json").write_text("[]")
    with pytest.raises(InputError, match="holds no hash; delete it"):
        fetch(server.url, tmp_path, SHA, quiet=True)
    (tmp_path / "net-abc.pth.json").unlink()
    path = fetch(server.url, tmp_path, trusted=OTHER, quiet=True)
    assert path.read_bytes() == CONTENT[::-1]


def test_file_put_there_by_hand_is_verified_and_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "net-abc.pth").write_bytes(CONTENT)
    assert fetch(server.url, tmp_path, SHA, quiet=True).read_bytes() == CONTENT
    assert server.asked == []
    (tmp_path / "net-abc.pth.json").unlink()
    (tmp_path / "net-abc.pth").write_bytes(b"something else")
    with pytest.raises(InputError, match="does not begin its hash"):
        fetch(server.url, tmp_path, SHA, quiet=True)
    assert (tmp_path / "net-abc.pth").read_bytes() == b"something else"


@pytest.mark.parametrize(("code", "words"), [(404, "404 Not Found"), (503, "503")])
def test_servers_refusal_is_told(server: Server, tmp_path: Path, code: int, words: str) -> None:
    server.code = code
    with pytest.raises(InputError, match=words) as caught:
        fetch(server.url, tmp_path, quiet=True)
    assert caught.value.file == server.url
    assert not names(tmp_path)


def test_no_server_is_told_with_the_way_around(server: Server, tmp_path: Path) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"see to the network.* or download http://127"):
        fetch(url, tmp_path, quiet=True)


def test_folder_that_cannot_be_made_is_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=CACHE_VARIABLE):
        fetch(server.url, tmp_path / "file" / "below", quiet=True)


def test_processes_that_ask_at_once_download_once(server: Server, tmp_path: Path) -> None:
    found: list[bytes] = []
    ask = [
        threading.Thread(
            target=lambda: found.append(fetch(server.url, tmp_path, SHA, quiet=True).read_bytes())
        )
        for _ in range(4)
    ]
    for thread in ask:
        thread.start()
    for thread in ask:
        thread.join()
    assert found == [CONTENT] * 4
    assert server.asked == [""]


def test_cache_is_where_the_platform_or_the_variable_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / "xdg" / "astroseg"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "astroseg"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "astroseg"
