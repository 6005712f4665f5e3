"""Inject faults of every kind into files, folders and runs, and count what becomes of them.

    python benchmarks/faults.py --tries 10000 --seed 1

Each fault is drawn from the seed and played in a process with a limit of time and of memory: of
its own where the fault is one of processes, else with others in turn (`played.py`). What comes of
it is one of

- survived: exit code 0 and the same labels as without the fault, or, where the fault is a document
  or header that cannot be told from a true one, exit code 0;
- told: exit code 2 and one line that says what is wrong;
- lost: exit code 0 and other labels, or a file written where none may be;
- traceback, hang, crash: what no input may cause.

Only the first two are right: the command's exit code is 1 where there is any other.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gzip
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))  # its neighbour, for whoever imports this file
from hostile import bad_checkpoint, served
from hostile_files import MAKERS
from played import LIBRARIES, TORCH, Limits, command, import_ahead, played, played_together

from astrolabel.cli.main import main as astrolabel
from astrolabel.label.shards import FOLDERS, LOCK

TOGETHER = 50
"""Faults played by one process."""
BAD = ("lost", "traceback", "hang", "crash")
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, 1e300, -1e300, float("nan"), float("inf"), "", "\0", "\ud800",
    "гало", "x" * 5000, "../../home/x", "/etc/passwd", [], {}, [1], {"a": 1}, [[]],
    [[1, 1, 1e300, 1, 9, 9]], [[float("nan")] * 6],
)  # fmt: skip
"""Values that no document should have where another is wanted."""
FORMATS = ("ds9", "cvat", "croissant", "deepdisc", "parquet", "segmentation", "fits", "ecsv",
           "votable", "yolo", "geojson", "labelme", "moc", "models")  # fmt: skip
OF_FILES = {"hostile catalog": 6, "hostile regions": 3, "hostile corrections": 3,
            "hostile settings": 3, "hostile table of labels": 3, "hostile records": 2,
            "hostile picture": 4, "hostile stamps": 2, "hostile plan": 2, "pipe": 2,
            "hostile image": 3}  # fmt: skip
"""Shares of `hostile_files.MAKERS` among the faults."""
SERVER = "http://127.0.0.1:0"
"""Stands for the server of a manifest until there is one."""
ODD_CARDS = (
    "-5", "0", "99999999999999999999999", "1E400", "NaN", "'text'", "T", "", "-32.5", "2147483648",
)  # fmt: skip


class Bench:
    """A small simulated sky, its labels, and what they are.

    Attributes
    ----------
    sky, out : folders of the survey's files and of the labels.
    labels : sha256 of the annotations without a fault.
    seconds : how long it takes to label it, by the clock.
    largest : bytes of the largest file that is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.sky, self.out = folder, folder / "sky", folder / "out"
        astrolabel(["simulate", str(self.sky), "--size", "72", "--seed", "3"])
        self._with_sums()
        assert astrolabel(self.words(self.sky, folder / "first")) == 0  # compiles
        began = time.monotonic()
        assert astrolabel(self.words(self.sky, self.out)) == 0
        self.seconds = time.monotonic() - began
        self.largest = max(len(content) for content in contents(self.out).values())
        self.labels = labels_of(self.out)
        self.files = sorted(self.sky.glob("calexp-HSC-[GI]-*.fits"))

    def _with_sums(self) -> None:
        from astropy.io import fits

        for path in self.sky.glob("*.fits"):
            with fits.open(path) as hdus:
                hdus.writeto(path, checksum=True, overwrite=True)

    def run(self, sky: Path, out: Path, *more: str) -> Callable[[], int]:
        return command([*self.words(sky, out), *more])

    def words(self, sky: Path, out: Path) -> list[str]:
        tiles = ["--tile-size", "48", "--margin", "8", "--bands", "g,i"]
        return ["make-coco", str(sky), *tiles, "--quiet", "--out", str(out)]


def labels_of(out: Path) -> str:
    """sha256 of all annotations of a run; "" where there is no file."""
    try:
        found = json.loads((out / "coco.json").read_text())["annotations"]
    except (OSError, ValueError, KeyError):
        return ""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def flipped(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    changed[draw.randrange(10, len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def odd_header(data: bytes, draw: random.Random) -> bytes:
    """The value of one card of a FITS header replaced."""
    cards = [k for k in range(0, min(len(data), 28800), 80) if data[k + 8 : k + 10] == b"= "]
    at = draw.choice(cards)
    return data[: at + 10] + draw.choice(ODD_CARDS).rjust(20).encode() + data[at + 30 :]


# Each kind: (bench, draw, scratch folder) -> outcome.


def harmed_input(change: Callable[[bytes, random.Random], bytes], packed: bool = False) -> Any:
    def fault(bench: Bench, draw: random.Random, scratch: Path) -> str:
        sky, chosen = scratch / "sky", draw.choice(bench.files)
        sky.mkdir()
        for path in bench.sky.glob("*.fits"):
            if path.name.startswith(("calexp", "psf")) and path.name != chosen.name:
                (sky / path.name).hardlink_to(path)
        data = chosen.read_bytes()
        name = chosen.name + (".gz" if packed else "")
        (sky / name).write_bytes(change(gzip.compress(data, mtime=0) if packed else data, draw))
        outcome = played(bench.run(sky, scratch / "out"), scratch / "log")
        if outcome == "ok":
            return "survived" if labels_of(scratch / "out") == bench.labels else "lost"
        return outcome

    return fault


def odd_unsigned(bench: Bench, draw: random.Random, scratch: Path) -> str:
    """An odd card in a file without CHECKSUM and DATASUM: nothing tells but what it says."""
    sky, chosen = scratch / "sky", draw.choice(bench.files)
    sky.mkdir()
    for path in bench.sky.glob("*.fits"):
        if path.name.startswith(("calexp", "psf")) and path.name != chosen.name:
            (sky / path.name).hardlink_to(path)
    data = chosen.read_bytes()
    for key in (b"CHECKSUM", b"DATASUM "):
        data = data.replace(key, b"X_NOTHIN")
    (sky / chosen.name).write_bytes(odd_header(data, draw))
    outcome = played(bench.run(sky, scratch / "out"), scratch / "log")
    return "survived" if outcome == "ok" else outcome


def harmed_output(bench: Bench, draw: random.Random, scratch: Path) -> str:
    """A file of a finished run flipped, cut or taken away before a rerun."""
    out = scratch / "out"
    shutil.copytree(bench.out, out)
    chosen = draw.choice([p for f in FOLDERS for p in sorted((out / f).iterdir())])
    harm = draw.choice((flipped, cut, None))
    if harm is None:
        chosen.unlink()
    else:
        chosen.write_bytes(harm(chosen.read_bytes(), draw))
    return _same_after(bench, played(bench.run(bench.sky, out), scratch / "log"), out)


def killed_run(bench: Bench, draw: random.Random, scratch: Path) -> str:
    """A run killed at a random instant, and the same command again."""
    after_s = draw.uniform(0.05, 1.5 * bench.seconds)
    return _interrupted(bench, scratch, Limits(kill_after_s=after_s), ("killed", "ok"))


def lost_worker(bench: Bench, draw: random.Random, scratch: Path) -> str:
    """One of two workers killed at a random instant: the run itself survives it."""
    out, after_s = scratch / "out", draw.uniform(0.5, 6 * bench.seconds)
    run = bench.run(bench.sky, out, "--jobs", "2")
    return _same_after(bench, played(run, scratch / "log", Limits(worker_after_s=after_s)), out)


def full_disk(bench: Bench, draw: random.Random, scratch: Path) -> str:
    """No file may grow beyond some bytes; then the same command with room."""
    limits = Limits(file_bytes=draw.randrange(1, bench.largest + 1000))
    return _interrupted(bench, scratch, limits, ("told", "ok"))


def read_only(bench: Bench, draw: random.Random, scratch: Path) -> str:
    """A folder of the output that may not be written; then the same command when it may."""
    out = scratch / "out"
    folder = out / draw.choice(("", *FOLDERS))
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    first = played(bench.run(bench.sky, out), scratch / "log", Limits(unprivileged=True))
    if first != "told":
        return "lost" if first == "ok" else first
    folder.chmod(0o755)
    return _same_after(bench, played(bench.run(bench.sky, out), scratch / "log"), out)


def _interrupted(bench: Bench, scratch: Path, limits: Limits, right: tuple[str, ...]) -> str:
    """A run under limits, and the same command without."""
    out = scratch / "out"
    first = played(bench.run(bench.sky, out), scratch / "log", limits)
    if first not in right:
        return first
    return _same_after(bench, played(bench.run(bench.sky, out), scratch / "log"), out)


def _same_after(bench: Bench, outcome: str, out: Path) -> str:
    if outcome != "ok":
        return outcome
    return "survived" if contents(out) == contents(bench.out) else "lost"


def contents(out: Path) -> dict[str, bytes]:
    """Bytes of a run's files by name."""
    return {
        p.relative_to(out).as_posix(): p.read_bytes()
        for p in out.rglob("*")
        if p.is_file() and p.name != LOCK
    }


def mutated(value: Any, draw: random.Random) -> Any:
    """A copy of a document with one value replaced, taken out or doubled."""
    found = copy.deepcopy(value)
    place = found
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw.choice(keys)
        if isinstance(place[key], (dict, list)) and place[key] and draw.random() < 0.8:
            place = place[key]
            continue
        if draw.random() < 0.15:
            del place[key]
        else:
            place[key] = draw.choice(ODD)
        return found


def hostile_document(bench: Bench, draw: random.Random, scratch: Path) -> str:
    """A COCO file with one odd value, or none that JSON should have, for every reader of it."""
    path = scratch / "coco.json"
    for name in ("images", "cubes", "residuals"):
        (scratch / name).symlink_to(bench.out / name)
    doc = json.loads((bench.out / "coco.json").read_text())
    doc["annotations"] = doc["annotations"][:4]
    text = json.dumps(mutated(doc, draw))
    if draw.random() < 0.1:
        text = draw.choice(
            ("[" * 100_000, '{"a":' * 50_000, text[:-1] + ', "x": ' + "9" * 5000 + "}")
        )
    path.write_text(text, "utf-8", "surrogatepass")
    words = draw.choice(
        (
            ["validate", str(path)],
            ["preview", str(path), "--out", str(scratch / "preview")],
            ["report", str(path), "--quiet", "--out", str(scratch / "r.html")],
            ["export", str(path), "--to", draw.choice(FORMATS)],
            ["review", str(path), "--out", str(scratch / "review")],
            ["review", str(bench.out / "coco.json"), "--truth", str(path),
             "--out", str(scratch / "review")],
            ["report", str(bench.out / "coco.json"), "--truth", str(path), "--quiet",
             "--out", str(scratch / "r.html")],
            ["reproduce", str(path), "--tile", "9813-4,5-r0c0", "--inputs", str(bench.sky)],
            ["relabel", str(path), "--catalog", str(bench.sky / "catalog_hsc.fits"),
             "--scheme", "hsc", "--out", str(scratch / "new.json")],
            ["split", "--check", str(path), str(bench.out / "coco.json")],
            ["split", str(path), "--fractions", "a=0.5", "b=0.5", "--out", str(scratch / "split")],
            ["counts", str(path)],
        )
    )  # fmt: skip
    outcome = played(command(words), scratch / "log")
    return "survived" if outcome == "ok" else outcome


def hostile_manifest(bench: Bench, draw: random.Random, scratch: Path) -> str:
    """A manifest with one odd value, whose files are there or on a sound server; nothing may be
    written outside of its root, but for the lock file beside it."""
    root, path = scratch / "in" / "root", scratch / "in" / "m.yaml"
    root.mkdir(parents=True)
    doing = draw.choice(("check", "fetch", "split"))
    for file in bench.sky.glob("c*.fits") if doing == "check" else ():
        (root / file.name).hardlink_to(file)
    content = bench.files[0].read_bytes()
    values = mutated(sound_manifest(SERVER), draw)
    # A fault that gets through writes here, and not over a file of the system.
    text = yaml.safe_dump(values).replace("/etc/passwd", str(scratch / "elsewhere"))
    top = str(values.get("root", ".")).partition("/")[0]

    def call() -> int:  # the server too is in the process that is played
        with served(content, draw, ("sound",)) as url:
            path.write_text(text.replace(SERVER, url), "utf-8", "surrogatepass")
            if doing == "split":
                parts = ["--manifest", str(path), "--out", str(scratch / "in" / "parts")]
                return command(["split", str(bench.out / "coco.json"), *parts])()
            return command(["manifest", doing, str(path), "--quiet"])()

    outcome = played(call, scratch / "log")
    beyond = {p.name for p in scratch.iterdir()} - {"in", "log"}
    if top not in ("", "."):  # else the root is the manifest's own folder
        known = {"m.yaml", "m.lock.yaml", "root", "parts", top}
        beyond |= {p.name for p in (scratch / "in").iterdir()} - known
    if beyond:
        return "lost"
    return "survived" if outcome == "ok" else outcome


def sound_manifest(url: str) -> dict[str, Any]:
    """A manifest of the bench's sky."""
    name = "calexp-HSC-{BAND}-{tract}-{patch}.fits"
    return {
        "schema": 2, "name": "x", "survey": "fits", "bands": ["g", "i"], "root": "root",
        "tile_size": 64, "coadds": {"pattern": name, "patches": {"9813": ["4,5"]}},
        "catalogs": [{"file": "catalog_hst.fits", "scheme": "hst", "url": f"{url}/a"}],
        "scheme": "hst", "cuts": {"max_no_data": 0.3},
        "source": {"archive": "url", "server": url, "coadds": name},
        "splits": {"train": [{"patches": {"9813": ["4,5"]}}, {"moc": "6/100-103"},
                             {"circle": [150.0, 2.0, 0.5]}]},
    }  # fmt: skip


def hostile_predictions(bench: Bench, draw: random.Random, scratch: Path) -> str:
    """A COCO file or predictions with one odd value, for what compares the two."""
    doc = json.loads((bench.out / "coco.json").read_text())
    doc = {k: doc[k] for k in ("images", "categories", "annotations")}
    doc["annotations"] = doc["annotations"][:4]
    keys = ("image_id", "category_id", "bbox", "segmentation")
    found = [{"score": 0.9, **{k: a[k] for k in keys}} for a in doc["annotations"]]
    doc, found = (mutated(doc, draw), found) if draw.random() < 0.5 else (doc, mutated(found, draw))
    for name, value in (("coco.json", doc), ("p.json", found)):
        (scratch / name).write_text(json.dumps(value), "utf-8", "surrogatepass")
    (scratch / "images").symlink_to(bench.out / "images")
    two = [str(scratch / "coco.json"), str(scratch / "p.json")]
    words = draw.choice(
        (
            ["astroseg", "evaluate", *two, "--no-report", "--out", str(scratch / "e")],
            ["review", two[0], "--predictions", two[1], "--out", str(scratch / "e")],
        )
    )
    outcome = played(command(words), scratch / "log")
    return "survived" if outcome == "ok" else outcome


def hostile_checkpoint(bench: Bench, draw: random.Random, scratch: Path) -> str:
    """A checkpoint that is damaged, lies about itself, or would run a command."""
    import astroseg.weights

    sound = Path(astroseg.weights.__file__).with_name("sky.safetensors").read_bytes()
    path, mark = scratch / draw.choice(("a.safetensors", "a.pth")), scratch / "ran"
    path.write_bytes(bad_checkpoint(sound, draw, mutated, mark))
    words = ["astroseg", "predict", str(path), str(bench.files[0]), "--quiet", "--device", "cpu"]
    outcome = played(command([*words, "--out", str(scratch / "found")]), scratch / "log")
    if mark.exists():
        return "lost"
    return "survived" if outcome == "ok" else outcome


def hostile_server(bench: Bench, draw: random.Random, scratch: Path) -> str:
    """A server that answers anything at all: a file that is fetched is whole."""
    chosen = bench.files[0].read_bytes()

    def fetch() -> int:  # the server too is in the process that is played
        with served(chosen, draw) as url:
            values = {
                "schema": 2, "name": "x", "survey": "fits", "bands": ["g"],
                "coadds": {"pattern": "{band}.fits"},
                "source": {"archive": "url", "server": url, "coadds": "{band}.fits"},
            }  # fmt: skip
            (scratch / "m.yaml").write_text(yaml.safe_dump(values))
            words = ["manifest", "fetch", str(scratch / "m.yaml"), "--root", str(scratch / "root")]
            return command([*words, "--quiet"])()

    outcome = played(fetch, scratch / "log")
    got = scratch / "root" / "g.fits"
    if outcome == "ok" or got.exists():
        whole = got.exists() and got.read_bytes() == chosen
        return ("survived" if outcome == "ok" else outcome) if whole else "lost"
    return outcome


def hostile_file(make: Any) -> Any:
    """A file of another kind (`hostile_files.py`), and a command that reads it."""

    def fault(bench: Bench, draw: random.Random, scratch: Path) -> str:
        words = make(bench.sky, bench.out, scratch, draw, mutated)
        outcome = played(command(words), scratch / "log")
        return "survived" if outcome == "ok" else outcome

    return fault


KINDS: dict[str, tuple[float, Callable[[Bench, random.Random, Path], str]]] = {
    "bit of a FITS file": (14, harmed_input(flipped)),
    "bit of a FITS.gz file": (8, harmed_input(flipped, packed=True)),
    "FITS file cut": (8, harmed_input(cut)),
    "odd card of a FITS header": (8, harmed_input(odd_header)),
    "odd card, no checksum": (1, odd_unsigned),
    "file of a finished run": (1, harmed_output),
    "run killed": (0.4, killed_run),
    "worker lost": (0.1, lost_worker),
    "disk full": (0.4, full_disk),
    "folder read-only": (0.4, read_only),
    "hostile COCO file": (20, hostile_document),
    "hostile manifest": (26, hostile_manifest),
    "hostile server": (6, hostile_server),
    **{name: (share, hostile_file(MAKERS[name])) for name, share in OF_FILES.items()},
    "hostile predictions": (2, hostile_predictions),
    "hostile checkpoint": (3, hostile_checkpoint),
}
"""Share of the faults, and what plays one. Those that label a sky are fewer."""
OF_ASTROSEG = ("hostile predictions", "hostile checkpoint", "hostile image")


def counted(
    bench: Bench, tries: int, seed: int, kinds: tuple[str, ...] = (), keep: Path | None = None
) -> dict[str, Counter[str]]:
    """Outcomes by kind, of those so far where Ctrl-C comes; the words of bad ones are printed as
    they come."""
    found: dict[str, Counter[str]] = {name: Counter() for name in kinds or KINDS}
    with contextlib.suppress(KeyboardInterrupt):
        _play_all(bench, found, tries, seed, keep)
    return found


def _play_all(
    bench: Bench, found: dict[str, Counter[str]], tries: int, seed: int, keep: Path | None
) -> None:
    draw, names = random.Random(seed), list(found)
    shares = [KINDS[name][0] for name in names]
    drawn = [(name, n) for n, name in enumerate(draw.choices(names, shares, k=tries))]
    import_ahead(LIBRARIES)
    # astroseg's last: a process that holds torch takes longer to be copied.
    drawn.sort(key=lambda one: one[0] in OF_ASTROSEG)
    for at in range(0, tries, TOGETHER):
        batch = drawn[at : at + TOGETHER]
        if batch[-1][0] in OF_ASTROSEG:
            import_ahead(TORCH)
        outcomes = played_together([partial(_fault, bench, seed, *one) for one in batch])
        for (name, number), outcome in zip(batch, outcomes, strict=True):
            found[name][outcome] += 1
            scratch = _scratch(bench, number)
            if outcome in BAD:
                log = scratch / "log"
                said = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
                print(f"{outcome}: {name}, fault {number}: {said[-1:]}", file=sys.stderr)
                if keep is not None:
                    shutil.move(scratch, keep / f"{seed}-{number}")
                    continue
            shutil.rmtree(scratch)


def _fault(bench: Bench, seed: int, name: str, number: int) -> str:
    scratch = _scratch(bench, number)
    scratch.mkdir()
    return KINDS[name][1](bench, random.Random(f"{seed}-{number}"), scratch)


def _scratch(bench: Bench, number: int) -> Path:
    return bench.folder / f"fault-{number}"


def table(found: dict[str, Counter[str]]) -> str:
    columns = ("survived", "told", *BAD)
    lines = [f"{'kind':28}{'tried':>8}" + "".join(f"{c:>11}" for c in columns)]
    for name, counts in [*found.items(), ("all", sum(found.values(), Counter()))]:
        lines.append(f"{name:28}{counts.total():8}" + "".join(f"{counts[c]:11}" for c in columns))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=[], help="only these")
    parser.add_argument("--keep", type=Path, help="folder for the files of those that went wrong")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        found = counted(bench, options.tries, options.seed, tuple(options.kind), options.keep)
    print(table(found))
    return int(any(counts[bad] for counts in found.values() for bad in BAD))


if __name__ == "__main__":
    sys.exit(main())
