"""The same masks with other classes; two catalogs weighed; counts side by side."""

from functools import cache

import numpy as np
import pytest
from astropy.table import Table
from fits_files import scene, tan_wcs, write_calexp

from astrolabel.catalog.catalog import read_catalog
from astrolabel.catalog.combine import galaxy_probability
from astrolabel.cli.main import main
from astrolabel.core.config import ClassifyConfig, LabelConfig, TileConfig
from astrolabel.core.errors import InputError
from astrolabel.datasets.counts import count_labels
from astrolabel.io import coco
from astrolabel.io.find import Inputs, find_coadds
from astrolabel.label.pipeline import make_coco

ARCSEC = 1 / 3600


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """Twelve stars in g and i, an HST catalog of ten of them and an HSC one of eleven."""
    folder = tmp_path_factory.mktemp("sky")
    image, positions = scene()
    for band in "gi":
        write_calexp(folder / "in", band, image)
    ra, dec = tan_wcs(image.shape).all_pix2world(positions[:, 1], positions[:, 0], 0)
    kind = np.array([1, 2] * 6)
    rows = slice(0, 10)
    hst = Table(
        [np.arange(100, 110), ra[rows], dec[rows], np.full(10, 22.0), kind[rows]],
        names=("number", "ra", "dec", "mag_auto", "mu_class"),
    )
    hst["mu_class"][3] = 3
    hst.write(folder / "hst.fits")
    rows = slice(1, 12)
    hsc = Table(
        [np.arange(201, 212), ra[rows], dec[rows],
         27 - 2.5 * np.log10(_fluxes(image, positions)[rows]), (kind[rows] == 1).astype(float)],
        names=("object_id", "ra", "dec", "i_cmodel_mag", "i_extendedness_value"),
    )  # fmt: skip
    hsc["i_extendedness_value"][4:6] = 1 - hsc["i_extendedness_value"][4:6]
    hsc.write(folder / "hsc.fits")
    return folder


def _fluxes(image, positions):
    return np.array(
        [image[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7].sum() for y, x in positions]
    )


def labelled(sky, out, scheme="none", keep=False, name="coco.json"):
    config = LabelConfig(
        tile=TileConfig(size=80, margin_px=24),
        classify=ClassifyConfig(scheme=scheme, keep_unmatched=keep),
    )
    catalog = None
    if scheme != "none":
        path = sky / f"{scheme}.fits"
        catalog = (read_catalog(path, scheme), path)
    coadds = find_coadds(Inputs((sky / "in",)))
    return make_coco(coadds, config, out, catalog, progress=False).coco


@pytest.fixture(scope="module")
def once(sky, tmp_path_factory):
    """`labelled`, which makes each file but once: to be read."""
    return cache(
        lambda scheme, keep: labelled(sky, tmp_path_factory.mktemp("labels"), scheme, keep)
    )


def without_ids(document):
    return [{k: v for k, v in a.items() if k != "id"} for a in document["annotations"]]


@pytest.mark.parametrize("scheme", ["hst", "hsc"])
@pytest.mark.parametrize("first", ["none", "hsc", "hst"])
def test_relabelling_equals_labelling_with_the_catalog(sky, once, first, scheme):
    source = once(first, True)
    words = ["--catalog", str(sky / f"{scheme}.fits"), "--scheme", scheme]
    out = source.with_name(f"new-{scheme}.json")
    assert main(["relabel", str(source), *words, "--out", str(out)]) == 0
    direct = coco.read(once(scheme, False))
    new = coco.read(out)
    assert without_ids(new) == without_ids(direct)
    assert new["categories"] == direct["categories"]
    assert new["info"]["config"] == direct["info"]["config"] | {
        "classify": direct["info"]["config"]["classify"]
    }
    assert new["info"]["config_hash"] == direct["info"]["config_hash"]
    assert new["info"]["catalog"] == direct["info"]["catalog"]
    assert direct["info"]["catalog"]["scheme"] == scheme
    assert coco.validate(new, out.parent) == ()


def test_masks_without_a_class_are_kept_as_ignore_regions_where_asked(sky, tmp_path):
    source = labelled(sky, tmp_path)
    words = ["--catalog", str(sky / "hst.fits"), "--scheme", "hst", "--keep-unmatched"]
    assert main(["relabel", str(source), *words, "--out", str(tmp_path / "new.json")]) == 0
    old, new = coco.read(source), coco.read(tmp_path / "new.json")
    assert [a["segmentation"] for a in new["annotations"]] == [
        a["segmentation"] for a in old["annotations"]
    ]
    reasons = [a["attributes"]["ignored"] for a in new["annotations"] if a["iscrowd"]]
    assert set(reasons) == {"fake", "no catalog object within 1 arcsec"}
    assert new["info"]["relabelled"]["states"]["skipped:fake"] >= 1
    assert not any("ignored" in a["attributes"] for a in new["annotations"] if not a["iscrowd"])


def test_what_is_labelled_elsewhere_stays_an_ignore_region(sky, tmp_path):
    source = labelled(sky, tmp_path)
    doc = coco.read(source)
    doc["annotations"][0]["iscrowd"] = 1
    doc["annotations"][0]["attributes"]["ignored"] = "labelled in another coadd"
    coco.write_json(source, doc)
    words = ["--catalog", str(sky / "hsc.fits"), "--scheme", "hsc"]
    assert main(["relabel", str(source), *words, "--out", str(tmp_path / "new.json")]) == 0
    first = coco.read(tmp_path / "new.json")["annotations"][0]
    assert (first["iscrowd"], first["attributes"]["ignored"]) == (1, "labelled in another coadd")


def test_two_catalogs_are_weighed(sky, tmp_path):
    source = labelled(sky, tmp_path)
    words = ["--catalog", str(sky / "hst.fits"), "--scheme", "hst",
             "--second", str(sky / "hsc.fits"), "--second-scheme", "hsc"]  # fmt: skip
    assert main(["relabel", str(source), *words, "--out", str(tmp_path / "new.json")]) == 0
    new = coco.read(tmp_path / "new.json")["annotations"]
    sources = {a["attributes"]["class_source"] for a in new}
    assert sources == {"hst", "hsc", "hst+hsc"}
    for a in new:
        p = a["attributes"]["p_galaxy"]
        assert a["category_id"] == (1 if p >= 0.5 else 2)


def test_positions_and_places_are_needed(sky, tmp_path):
    source = labelled(sky, tmp_path)
    doc = coco.read(source)
    words = ["--catalog", str(sky / "hst.fits"), "--scheme", "hst"]
    elsewhere = str(tmp_path / "other" / "new.json")
    assert main(["relabel", str(source), *words, "--out", elsewhere]) == 2
    del doc["annotations"][2]["attributes"]["ra"]
    coco.write_json(source, doc)
    assert main(["relabel", str(source), *words, "--out", str(tmp_path / "new.json")]) == 2
    assert not (tmp_path / "new.json").exists()


def two_catalogs(n=6000, seed=0):
    """Truth, and two catalogs: one right 99 times of 100, one that grows worse when faint."""
    rng = np.random.default_rng(seed)
    magnitude = rng.uniform(20, 26, n)
    truth = np.where(rng.random(n) < 0.15, 2, 1)
    wrong = np.interp(magnitude, [20, 23, 26], [0.01, 0.03, 0.4])
    first = np.where(rng.random(n) < 0.01, 3 - truth, truth).astype(np.int8)
    second = np.where(rng.random(n) < wrong, 3 - truth, truth).astype(np.int8)
    return truth, first, second, magnitude


def test_the_better_catalog_wins_a_disagreement():
    truth, first, second, magnitude = two_catalogs()
    p = galaxy_probability(first, second, magnitude)
    faint = (first != second) & (magnitude > 25)
    assert ((p >= 0.5) == (first == 1))[faint].mean() > 0.9
    right = np.where(p >= 0.5, 1, 2) == truth
    assert right.mean() > (second == truth).mean()
    assert right.mean() >= (first == truth).mean() - 0.002


def test_probabilities_are_about_as_often_right_as_they_say():
    truth, first, second, magnitude = two_catalogs(40_000)
    first[::2] = 0
    p = galaxy_probability(first, second, magnitude)
    for low, high in ((0.05, 0.3), (0.3, 0.7), (0.7, 0.95)):
        here = (p > low) & (p < high)
        if here.sum() > 200:
            assert abs((truth[here] == 1).mean() - p[here].mean()) < 0.12
    assert (((p > 0.05) & (p < 0.95)).sum()) > 400


def test_one_class_or_none_is_enough():
    first, second = np.array([1, 0, 2, 0], np.int8), np.array([0, 2, 2, 3], np.int8)
    p = galaxy_probability(first, second, np.array([20.0, np.nan, 21, 22]))
    assert p[0] > 0.5
    assert p[1] < 0.5
    assert p[2] < p[1]
    assert np.isnan(p[3])


def test_labels_are_counted_by_class_and_magnitude(tmp_path):
    def write(name, magnitudes, kinds):
        annotations = [
            {"id": k + 1, "image_id": 1, "category_id": c, "iscrowd": int(m == 99),
             "attributes": {"mag_i": m}}
            for k, (m, c) in enumerate(zip(magnitudes, kinds, strict=True))
        ]  # fmt: skip
        classes = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}]
        image = {"id": 1, "file_name": "a.png", "width": 9, "height": 9}
        coco.write_json(tmp_path / name, {"images": [image], "annotations": annotations,
                                     "categories": classes})  # fmt: skip
        return tmp_path / name

    one = write("hsc.json", [20.1, 20.4, 20.6, None, 99], [1, 1, 2, 1, 1])
    two = write("hst.json", [20.1, 21.4], [2, 2])
    counted = count_labels([one, two])
    assert list(counted["i magnitude"]) == ["20-20.5", "20.5-21", "21-21.5", "unknown"]
    assert counted["hsc galaxy"].tolist() == [2, 0, 0, 1]
    assert counted["hsc star"].tolist() == [0, 1, 0, 0]
    assert counted["hst galaxy"].tolist() == [0, 0, 0, 0]
    assert counted["hst star"].tolist() == [1, 0, 1, 0]
    assert main(["counts", str(one), str(two), "--out", str(tmp_path / "t.csv")]) == 0
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == "i magnitude,hsc galaxy,hsc star,hst galaxy,hst star"
    assert lines[1] == "20-20.5,2,0,0,1"
    with pytest.raises(InputError, match="no label has a magnitude in band z"):
        count_labels([one], "z")
