"""Fetch what a manifest names and is not there, from where the manifest says."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from astrolabel.core.errors import InputError, OutputError
from astrolabel.core.files import below
from astrolabel.core.progress import Progress, steps
from astrolabel.datasets.archive import hsc
from astrolabel.datasets.archive.addresses import address, shown
from astrolabel.datasets.archive.client import Client
from astrolabel.datasets.archive.retry_policy import RetryPolicy
from astrolabel.datasets.lock import Lock, check_content, read_lock
from astrolabel.datasets.manifest import HscSource, Manifest
from astrolabel.datasets.manifest_files import (
    Wanted,
    file_entry,
    located,
    query_text,
    state_of,
    wanted_files,
)


@dataclass(frozen=True)
class Fetched:
    """What a fetch did: how many files came, how many were there and right."""

    came: int
    there: int

    def summary(self) -> str:
        return f"{self.came} files fetched, {self.there} were there"


def fetch(
    manifest: Manifest,
    folder: Path,
    *,
    policy: RetryPolicy | None = None,
    progress: bool = True,
) -> Fetched:
    """Bring every missing file of a manifest into a folder, and record all hashes.

    Files that are there are verified, not fetched. Whatever came whole stays when a later
    file fails, and downloads go on where they broke off.

    Parameters
    ----------
    folder : the manifest's root; made where it is not there.

    Raises
    ------
    InputError
        For the first file that is wrong, that has no source, or that cannot be had.
    OutputError
        When the folder or the lock file cannot be written, or another run is at it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".astrolabel-fetch.lock", timeout=0):
            return _fetch(manifest, folder, policy or RetryPolicy(), progress)
    except Timeout:
        raise OutputError(
            "another run is fetching into this folder", file=folder, remedy="wait for it to end"
        ) from None
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})",
            file=folder,
            remedy="choose another folder with --root",
        ) from error


def _fetch(manifest: Manifest, folder: Path, policy: RetryPolicy, progress: bool) -> Fetched:
    lock, missing, present = read_lock(manifest.path), [], 0
    there = located(manifest, folder)
    everything = wanted_files(manifest, folder)
    if not any(w.kind == "coadd" for w in everything):
        raise InputError(
            "no file there has a name of the manifest's pattern",
            file=folder,
            remedy="put the coadds there: those found by * cannot be fetched",
        )
    for wanted in steps(everything, len(everything), "verify", "file", shown=progress):
        state = state_of(manifest, lock, wanted, there.get(wanted.file))
        if state.state == "wrong":
            raise InputError(state.why)
        if state.state == "missing":
            missing.append(wanted)
            continue
        present += 1
        if state.path is not None and wanted.file not in lock.entries:
            lock = lock.with_entry(wanted.file, file_entry(state.path, wanted, manifest))
    without = [w for w in missing if not _has_source(manifest, w)]
    if without:
        raise InputError(
            f"{len(without)} files are missing and the manifest does not say where they come "
            f"from ({', '.join(w.file for w in without[:3])}{', ...' if without[3:] else ''})",
            file=folder,
            remedy="put them there, or add a source to the manifest",
        )
    # PSFs are asked for at the middle of their coadds, which must be there first.
    first = [w for w in missing if w.kind != "psf"]
    stamps = [w for w in missing if w.kind == "psf"]
    with Progress(len(missing), "fetch", "file", shown=progress and bool(missing)) as bar:
        for group in (first, stamps):
            lock = _side_by_side(manifest, folder, group, lock, policy, bar)
    return Fetched(len(missing), present)


def _has_source(manifest: Manifest, wanted: Wanted) -> bool:
    source = manifest.source
    if wanted.catalog is not None:
        return bool(wanted.catalog.query or wanted.catalog.url)
    if source is None or isinstance(source, HscSource):
        return source is not None
    return bool(source.psfs if wanted.kind == "psf" else source.coadds)


def _side_by_side(
    manifest: Manifest,
    folder: Path,
    group: Sequence[Wanted],
    lock: Lock,
    policy: RetryPolicy,
    bar: Progress,
) -> Lock:
    """Fetch some files at once; the first failure ends them all."""
    if not group:
        return lock
    there = located(manifest, folder)
    clients: dict[str, Client] = {}
    work: dict[Future[None], tuple[Wanted, Path]] = {}
    for wanted in group:  # before any thread: an account that is amiss is found here
        server = _server(manifest, wanted)
        if server not in clients:
            clients[server] = Client(server, policy, hsc=_is_hsc(manifest, wanted))
    pool = ThreadPoolExecutor(max_workers=policy.parallel)
    try:
        for wanted in group:
            target = _target(wanted, folder, there)
            client = clients[_server(manifest, wanted)]
            work[pool.submit(_one, manifest, wanted, target, client, lock, there)] = wanted, target
        open_: set[Future[None]] = set(work)
        while open_:
            done, open_ = wait(open_, return_when=FIRST_EXCEPTION, timeout=0.2)
            for future in sorted(done, key=lambda f: work[f][0].file):
                future.result()
                wanted, target = work[future]
                lock = lock.with_entry(wanted.file, file_entry(target, wanted, manifest))
                bar.update()
    finally:  # also when stopped from the keyboard
        for client in clients.values():
            client.stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        for future, (wanted, target) in work.items():
            # What came whole while another failed is recorded as well.
            came = future.done() and not future.cancelled() and future.exception() is None
            if came and wanted.file not in lock.entries:
                lock = lock.with_entry(wanted.file, file_entry(target, wanted, manifest))
    return lock


def _one(
    manifest: Manifest,
    wanted: Wanted,
    target: Path,
    client: Client,
    lock: Lock,
    there: dict[str, Path],
) -> None:
    """Fetch one file."""

    def check(path: Path) -> None:
        check_content(path)
        recorded = lock.entries.get(wanted.file)
        if recorded is None:
            return
        digest = file_entry(path, wanted, manifest)["sha256"]
        if digest != recorded["sha256"]:
            raise InputError(
                f"is not the file that came first (sha256 {digest[:12]}..., recorded "
                f"{recorded['sha256'][:12]}...)",
                file=path,
                remedy=f"if it changed on purpose, delete its entry in {lock.path.name}",
            )

    source = manifest.source
    if wanted.catalog is not None and wanted.catalog.query:
        assert isinstance(source, HscSource)
        sql = query_text(manifest, wanted.catalog)
        hsc.run_query(client, source, sql, target, check)
        return
    url, params = _address(manifest, wanted, there)
    try:
        client.download(url, target, params=params, check=check)
    except InputError as problem:
        if wanted.kind == "psf" and problem.remedy:
            raise InputError(
                problem.problem,
                file=problem.file,
                remedy=f"{problem.remedy}, or do without: source.psfs fits them to stars if false",
            ) from problem
        raise


def _address(
    manifest: Manifest, wanted: Wanted, there: dict[str, Path]
) -> tuple[str, dict[str, str] | None]:
    if wanted.catalog is not None:
        return wanted.catalog.url, None
    source = manifest.source
    assert source is not None
    if not isinstance(source, HscSource):
        pattern = source.psfs if wanted.kind == "psf" else source.coadds
        return address(source.server, quote(wanted.fill(pattern), safe="/?=&,:+%")), None
    if wanted.kind == "psf":
        coadd = there[wanted.file.removeprefix("psf-")]
        return hsc.psf_request(source, wanted, coadd)
    return hsc.coadd_url(source, wanted), None


def _server(manifest: Manifest, wanted: Wanted) -> str:
    if wanted.catalog is not None and wanted.catalog.url:
        return shown(wanted.catalog.url)
    assert manifest.source is not None
    return manifest.source.server


def _is_hsc(manifest: Manifest, wanted: Wanted) -> bool:
    """Whether the file's server is the one the environment's HSC account is for."""
    by_url = wanted.catalog is not None and bool(wanted.catalog.url)
    return isinstance(manifest.source, HscSource) and not by_url


def _target(wanted: Wanted, folder: Path, there: dict[str, Path]) -> Path:
    """Where a file goes: HSC's PSFs beside their coadds, where the reader looks for them."""
    coadd = there.get(wanted.file.removeprefix("psf-"))
    if wanted.kind == "psf" and coadd is not None and wanted.file.startswith("psf-calexp-HSC-"):
        return below(coadd.parent, wanted.file)
    return below(folder, wanted.file)
