"""Make the README's clip: install, predict, look.

    python benchmarks/clip.py [--out docs/images/first-look.webp]

Commands are run in a new folder with three simulated bands, and what they print is shown, their
waiting times shortened. The first one is shown and not run: it installs what runs here already.
The last picture is the overlay that the prediction wrote. Needs astrolabel and astroseg.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from astrolabel.simulate import SimulateConfig, simulate

INSTALL = "pip install ./packages/astroseg"
RUN = (
    "astroseg predict g.fits,r.fits,i.fits --out found",
    "ls found found/overlays",
    "python -c 'from astropy.table import Table; "
    'print(Table.read("found/catalog.fits")["class", "ra", "dec", "mag_HSC-I", "score"][:8])\'',
)
SIZE = (880, 560)
"""Of a frame, px: README pages are hardly wider."""
SKY = SimulateConfig(size=300, seed=7)
COLUMNS, LINE_PX, MARGIN_PX = 96, 20, 18
INK, PAPER, GREY, GREEN = "#e6e6e6", "#14161a", "#8a8f98", "#7bd88f"
TYPED_AT_ONCE = 3
"""Characters that a frame of typing adds."""
TYPING_MS, READING_MS, LOOKING_MS = 110, 4500, 15_000


@dataclass(frozen=True)
class Step:
    """A command, the lines that it printed, and a note that is no part of them."""

    command: str
    output: tuple[str, ...]
    note: str


Frame = tuple[Image.Image, int]
"""A picture and how many ms it stays."""
Line = tuple[str, str]
"""Text and colour."""


def record(command: str, folder: Path) -> Step:
    """Run a command in a folder; what it fails with ends the recording."""
    before = _cpu_seconds()
    done = subprocess.run(
        command, shell=True, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stdout[-2000:]}")
    seconds = _cpu_seconds() - before
    shorter = ", shown shorter" if 1000 * seconds > READING_MS else ""
    note = f"{seconds:.1f} s of a CPU core{shorter}"
    return Step(command, tuple(done.stdout.rstrip("\n").splitlines()), note)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def frames(steps: list[Step], overlay: Image.Image, caption: str) -> list[Frame]:
    """Typing, output and the picture at the end."""
    out: list[Frame] = []
    before: list[Line] = []
    for step in steps:
        for end in range(0, len(step.command), TYPED_AT_ONCE):
            out.append((screen([*before, *_typed(f"{step.command[:end]}▏")], ""), TYPING_MS))
        before += [*_typed(step.command), *((line, INK) for line in step.output), ("", INK)]
        out.append((screen(before, step.note), READING_MS))
    return [*out, (look(overlay, caption), LOOKING_MS)]


def _typed(command: str) -> list[Line]:
    return [(part, GREEN) for part in textwrap.wrap(f"$ {command}", COLUMNS)]


def screen(lines: list[Line], note: str) -> Image.Image:
    """The last lines that fit, and the note in grey below them."""
    frame = Image.new("RGB", SIZE, PAPER)
    draw, font = ImageDraw.Draw(frame), _font(14)
    rows = (SIZE[1] - 2 * MARGIN_PX) // LINE_PX - 2
    for number, (line, ink) in enumerate(lines[-rows:]):
        draw.text((MARGIN_PX, MARGIN_PX + number * LINE_PX), line, ink, font)
    draw.text((MARGIN_PX, SIZE[1] - MARGIN_PX - 14), note, GREY, font)
    return frame


def look(overlay: Image.Image, caption: str) -> Image.Image:
    """The overlay as high as the frame, its caption beside it."""
    side = SIZE[1]
    frame = Image.new("RGB", SIZE, PAPER)
    frame.paste(overlay.convert("RGB").resize((side, side), Image.Resampling.LANCZOS))
    text = "\n".join(
        line for part in caption.splitlines() for line in textwrap.wrap(part, 34) or [""]
    )
    place = (side + MARGIN_PX, MARGIN_PX)
    ImageDraw.Draw(frame).multiline_text(place, text, INK, _font(14), spacing=6)
    return frame


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib brings it, so that the clip looks the same everywhere."""
    folder = Path(matplotlib.get_data_path()) / "fonts/ttf"
    return ImageFont.truetype(str(folder / "DejaVuSansMono.ttf"), size)


def save(made: list[Frame], out: Path) -> None:
    """An animated WebP that plays again and again."""
    pictures, durations = zip(*made, strict=True)
    pictures[0].save(
        out,
        save_all=True,
        append_images=pictures[1:],
        duration=list(durations),
        loop=0,
        allow_mixed=True,  # text without loss, the picture with
        quality=80,
        method=4,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/images/first-look.webp"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        files = simulate(folder / "simulated", SKY).files
        for band in ("g", "r", "i"):
            shutil.move(files[band], folder / f"{band}.fits")
        shutil.rmtree(folder / "simulated")
        steps = [Step(INSTALL, (), "once; shown only: torch and astropy come with it")]
        steps += [record(command, folder) for command in RUN]
        [overlay] = (folder / "found/overlays").glob("*.png")
        caption = (
            f"found/overlays/{overlay.name}\n\nGalaxies blue, stars orange: the built-in model's "
            "outlines.\n\nThe pixels are simulated, with the look of HSC's deep coadds. The model "
            "was not trained on this image."
        )
        play = frames(steps, Image.open(overlay), caption)
    save(play, options.out)
    seconds = sum(ms for _, ms in play) / 1000
    print(f"{options.out}: {len(play)} frames, {seconds:.0f} s, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
