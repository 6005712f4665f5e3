"""Real HSC and HST images of one sky: positions agree, and HST classes land on their masks."""

import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from astrolabel.cli.main import main
from astrolabel.io import coco, rle


@pytest.fixture
def sky(real_data, tmp_path):
    """Labels of the HSC cutout (g, r, i), and what sep finds in the ACS image of its middle."""
    folder, acs = tmp_path, real_data / "hst_acs_f814w_cutout.fits"
    band = f"g,r,i,z,y={real_data / 'hsc_cutout_grizy.fits'}"
    words = ["--band", band, "--bands", "g,r,i", "--out", str(folder), "--quiet"]
    # Every candidate is kept: positions are tested here, not which candidates are sources. By
    # default one faint companion is merged, which moves its host's position by 0.03 arcsec.
    words += ["--detect.source-probability", "0"]
    assert main(["make-coco", *words]) == 0
    image = fits.getdata(acs).astype(np.float32)
    background = sep.Background(image)
    found = sep.extract(image - background.back(), 3.0, err=background.globalrms, minarea=15)
    ra, dec = WCS(fits.getheader(acs)).all_pix2world(found["x"], found["y"], 0)
    return folder, ra, dec


def labels(path):
    return coco.read(path)["annotations"]


def offsets(items, ra, dec):
    """(dra, ddec) arcsec (labels, HST sources)."""
    here = np.array([[a["attributes"]["ra"], a["attributes"]["dec"]] for a in items])
    north = (dec - here[:, 1:]) * 3600
    return (ra - here[:, :1]) * np.cos(np.radians(dec)) * 3600, north


def test_positions_agree_to_a_tenth_of_an_arcsecond(sky):
    folder, ra, dec = sky
    east, north = offsets(labels(folder / "coco.json"), ra, dec)
    apart = np.hypot(east, north)
    nearest = apart.argmin(axis=0)
    assert len(ra) == len(set(nearest.tolist())) == 4
    columns = np.arange(len(ra))
    assert np.median(apart[nearest, columns]) < 0.1
    assert np.hypot(east[nearest, columns].mean(), north[nearest, columns].mean()) < 0.1


def test_hst_classes_land_on_the_masks_that_hold_their_sources(sky):
    folder, ra, dec = sky
    kinds = np.array([1, 2, 1, 2])
    catalog = Table([np.arange(11, 15), ra, dec, kinds], names=("number", "ra", "dec", "mu_class"))
    catalog.write(folder / "acs.fits", overwrite=True)
    words = ["--catalog", str(folder / "acs.fits"), "--scheme", "hst", "--keep-unmatched"]
    new = folder / "hst.json"
    assert main(["relabel", str(folder / "coco.json"), *words, "--out", str(new)]) == 0
    old, changed = labels(folder / "coco.json"), labels(new)
    assert [a["segmentation"] for a in changed] == [a["segmentation"] for a in old]
    image = coco.read(new)["images"][0]
    wcs = WCS(fits.Header(image["astro"]["wcs"]))
    x, y = wcs.all_world2pix(ra, dec, 0)
    classed = {a["attributes"]["object_id"]: a for a in changed if not a["iscrowd"]}
    assert sorted(classed) == ["11", "12", "13", "14"]
    for k in range(4):
        label = classed[str(11 + k)]
        mask = rle.decode(label["segmentation"])
        assert mask[round(float(y[k])), round(float(x[k]))]
        assert label["category_id"] == kinds[k]
