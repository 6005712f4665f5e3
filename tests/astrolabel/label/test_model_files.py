"""Models and residuals as FITS: the drawn stars, and noise without them."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from review_scene import SHAPE, SHRED, A, B, scene

from astrolabel.cli.main import main


@pytest.fixture
def written(tmp_path):
    file = scene(tmp_path / "labels", (SHRED[0] | SHRED[1], SHRED[2]))
    assert main(["export", str(file), "--to", "models"]) == 0
    return file.parent / "coco-models"


def test_the_residual_is_the_noise_and_adds_up_with_the_model_to_the_image(written):
    with fits.open(written / "a.fits") as hdus:
        residual, model = hdus["RESIDUAL"].data, hdus["MODEL"].data
        assert hdus["RESIDUAL"].header["BANDS"] == "g,r"
        assert hdus["RESIDUAL"].header["MAGZP2"] == 27
    assert residual.shape == model.shape == (2, *SHAPE)
    assert residual.dtype.kind == "f"
    image = fits.getdata(written.parent / "cubes" / "a.fits")
    np.testing.assert_allclose(residual + model, image, atol=1e-3)
    assert residual.std() == pytest.approx(1, abs=0.1)
    assert model.sum(axis=(1, 2)) == pytest.approx([6000, 6000], rel=0.05)


def test_a_stamp_holds_its_source_alone(written):
    ratio = []
    for ident, place in ((1, A), (2, B)):
        with fits.open(written / "a" / f"{ident}.fits") as hdus:
            image, model, residual = (hdus[n].data for n in ("IMAGE", "MODEL", "RESIDUAL"))
            mask, header = hdus["MASK"].data, hdus["MODEL"].header
        assert image.shape == model.shape == residual.shape == (2, *mask.shape)
        y, x = place[0] - header["Y0"], place[1] - header["X0"]
        assert mask[y, x] == 1
        assert np.unravel_index(model[0].argmax(), mask.shape) == (y, x)
        ratio.append(model[0].max())
        # The image is this source, the other one and noise.
        assert (image - model - residual).min() > -0.1
        assert header["LABEL"] == ident
    assert ratio[0] / ratio[1] == pytest.approx(2, rel=0.05)
