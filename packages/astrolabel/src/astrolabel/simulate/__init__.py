"""Simulated coadds in survey layout, with catalogs and the truth.

`draw_scene` makes a scene in memory, `write_scene` its files; `simulate` does both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from astrolabel.core.config.simulate import SimulateConfig
from astrolabel.core.config.surveys import SURVEYS
from astrolabel.core.errors import OutputError
from astrolabel.core.progress import Progress as ProgressBar
from astrolabel.simulate.draw import Progress, Scene, Source, as_coadd, draw_bodies, draw_scene
from astrolabel.simulate.randomize import random_scene, write_scenes, write_training_sky
from astrolabel.simulate.write import truth_document, write_scene

__all__ = [
    "SURVEYS",
    "Scene",
    "SimulateConfig",
    "Simulated",
    "Source",
    "as_coadd",
    "draw_bodies",
    "draw_scene",
    "random_scene",
    "simulate",
    "truth_document",
    "write_scene",
    "write_scenes",
    "write_training_sky",
]


@dataclass(frozen=True, eq=False)
class Simulated:
    """A scene and the files it was written to.

    Attributes
    ----------
    scene : pixels and truth in memory.
    files : paths by what they hold (see `write_scene`).
    """

    scene: Scene
    files: dict[str, Path]

    def summary(self) -> str:
        """What was made and where, in one line."""
        labelled = self.scene.labelled
        stars = sum(s.body.is_star for s in labelled)
        blended = sum(s.n_blended > 1 for s in labelled) / max(len(labelled), 1)
        height, width = self.scene.shape
        return (
            f"{self.files['truth'].parent}: {width}x{height} pixels in "
            f"{','.join(self.scene.spec.band_names)}, {len(labelled)} sources with a mask "
            f"({len(labelled) - stars} galaxies, {stars} stars, {blended:.0%} blended)"
        )


def simulate(
    out: str | Path, config: SimulateConfig | None = None, progress: Progress | bool = False
) -> Simulated:
    """Draw a scene and write it into the folder `out`; what is there already is replaced.

    ``hsc-deep`` writes one coadd per band in HSC's MaskedImage layout, with PSF stamps;
    ``decam`` writes plain images, without mask or variance, with PSF stamps. Both write
    the catalogs, an 8-bit picture and ``truth.json``.

    Parameters
    ----------
    out : folder; made when it is not there.
    progress : True shows a bar; a function is called with the number of masked sources
        drawn and wanted.

    Raises
    ------
    InputError
        When the catalog of galaxies cannot be read.
    OutputError
        When `out` cannot be written, before anything is drawn.
    """
    config = SimulateConfig() if config is None else config
    _check_folder(Path(out))
    if progress is True:
        with ProgressBar(config.n_masked, "drawing", "source") as bar:
            scene = draw_scene(config, lambda done, _: bar.update(done - bar.done))
    else:
        scene = draw_scene(config, progress or None)
    return Simulated(scene, write_scene(scene, out))


def _check_folder(out: Path) -> None:
    """Make the folder and try a file in it: drawing takes too long to find out after."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})",
            file=out,
            remedy="choose a folder that exists or can be made, and is writable",
        ) from error
