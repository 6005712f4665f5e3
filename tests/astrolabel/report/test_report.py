import base64
import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from urllib.parse import urlencode

import numpy as np
import pytest
from astropy.table import Table
from PIL import Image
from report_files import SCALE, SHAPE, WCS, dataset, entry, places

from astrolabel.catalog.catalog import read_catalog
from astrolabel.cli.main import main
from astrolabel.core.box import Box
from astrolabel.core.errors import InputError, OutputError
from astrolabel.io import coco
from astrolabel.report import bins, measure, metrics, numbers, plots, summary, write_report
from astrolabel.report.catalog import compare_with_catalog
from astrolabel.report.examples import Stamp
from astrolabel.report.labels import read_labels
from astrolabel.report.residuals import measure_residuals
from astrolabel.report.stamps import draw, rebin, residual_colours, tile_pictures
from astrolabel.report.truth import compare_with_truth
from astrolabel.report.verdict import notes, verdict

# Bins.


def test_wilsons_interval_is_the_published_one():
    # Newcombe (1998), table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for hits, total, low, high in (
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):  # fmt: skip
        cut = bins.Bins("m", "m", (0.0, 1.0, 2.0))
        curve = bins.fraction(cut, np.full(total, 0.5), np.arange(total) < hits)
        assert (curve.low[0], curve.high[0]) == pytest.approx((low, high), abs=1e-4)
        assert np.isnan([curve.low[1], curve.high[1]]).all()


def test_values_beyond_the_bins_are_counted_at_their_ends_and_nan_nowhere():
    cut = bins.Bins("a", "a", (0.0, 1.0, 2.0))
    assert bins.histogram(cut, np.array([-5, 0.5, 1.0, 99, np.nan])) == (2, 2)


def test_bins_of_a_magnitude_are_not_stretched_by_one_wild_value():
    values = np.append(np.linspace(20, 25, 5000), 99.0)
    cut = bins.magnitudes("m", "m", values)
    assert cut.edges[0] == 20.0
    assert cut.edges[-1] <= 25.5
    assert sum(bins.histogram(cut, values)) == 5001
    assert bins.magnitudes("m", "m", np.array([np.nan])) is None


def test_a_fraction_and_its_depth():
    cut = bins.Bins("m", "m", (20.0, 21.0, 22.0, 23.0, 24.0))
    values = np.repeat([20.5, 21.5, 22.5, 23.5], [10, 2, 10, 10])
    hit = np.concatenate([np.ones(10), np.zeros(2), np.ones(9), [0], np.ones(5), np.zeros(5)])
    curve = bins.fraction(cut, values, hit.astype(bool))
    assert curve.value == pytest.approx((1, 0, 0.9, 0.5))
    assert curve.count == (10, 2, 10, 10)
    # Two objects of 21.5 are too few; at 23.5 every other is gone.
    assert bins.depth(curve, 0.8) == 23.0
    assert np.isnan(bins.depth(replace(curve, value=(0.1,) * 4), 0.8))


def test_quartiles_leave_out_what_is_unknown():
    cut = bins.Bins("m", "m", (0.0, 1.0, 2.0))
    curve = bins.quartiles(cut, np.array([0.5] * 5), np.array([1, 2, 3, 4, np.nan]))
    assert (curve.low[0], curve.value[0], curve.high[0]) == (1.75, 2.5, 3.25)
    assert curve.count == (4, 0)
    assert np.isnan(curve.value[1])


# Plots.


def svg_of(plot):
    assert plot.uri.startswith("data:image/svg+xml;base64,")
    return ET.fromstring(base64.b64decode(plot.uri.partition(",")[2]))


def test_a_plot_is_well_formed_and_its_bytes_are_the_same_each_time():
    cut = bins.Bins("m", "a < b & c", (1.0, 10.0, 100.0), "log")
    curve = bins.Curve("m", cut.edges, (0.5, np.nan), (0.1, np.nan), (0.6, np.nan), (3, 0))
    first, again = (plots.fractions({"&": (curve, "#000")}, cut, "part", "<t>") for _ in range(2))
    assert svg_of(first).tag.endswith("svg")
    assert first == again
    assert first.title == "<t>"


def test_bins_of_few_objects_are_hollow(monkeypatch):
    cut = bins.Bins("m", "m", (0.0, 1.0, 2.0))
    drawn = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.plot",
        lambda self, x, y, *style, **how: drawn.append((list(x), list(y), how.get("mfc"))),
    )
    curve = bins.Curve("m", cut.edges, (0.5, 1.0), (0.1, 0.9), (0.6, 1.0), (3, 50))
    plots.fractions({"": (curve, "#123456")}, cut, "part")
    assert drawn[1:] == [([0.5], [0.5], "white"), ([1.5], [1.0], "#123456")]


# Labels as columns.


def test_columns_hold_what_the_document_holds(tmp_path):
    entries = [
        entry(1, 20, 20, flags=["edge"], object_id="7"),
        entry(2, 50, 60, side=7, category_id=2, mag_r=None, n_blended=3),
        entry(3, 80, 90, iscrowd=1),
        entry(4, 40, 100, flags=["peak_outside"]),
        entry(5, 1, 60),
    ]
    path = dataset(tmp_path, entries, info={"flags": {"edge": "at the edge", "odd": "odd"}})
    labels = read_labels(path)
    assert labels.category.tolist() == [1, 2, 1, 1, 1]
    assert labels.area.tolist() == [a["area"] for a in coco.read(path)["annotations"]]
    assert labels.value("mag_i").tolist() == [20.5, 21.5, 22.5, 23.5, 24.5]
    assert np.isnan(labels.value("mag_r")).tolist() == [False, True, False, False, False]
    assert np.isnan(labels.value("mag_z")).all()
    assert labels.flags["edge"].tolist() == [True, False, False, False, False]
    assert not labels.flags["odd"].any()
    assert labels.own.tolist() == [True, True, False, False, True]
    assert labels.matched.tolist() == [True, False, False, False, False]
    assert labels.whole.tolist() == [True, True, True, True, False]
    assert labels.pixel_scale[0] == pytest.approx(SCALE)
    pixels, box = labels.mask(1)
    assert (box.y0, box.x0, pixels.shape, pixels.all()) == (47, 57, (7, 7), True)


def test_a_parquet_table_gives_the_same_columns(tmp_path):
    pytest.importorskip("pyarrow", reason="needs pip install astrolabel[parquet]")
    from astrolabel.export.convert import export

    path = dataset(tmp_path, [entry(1, 20, 20, flags=["edge"]), entry(2, 50, 60, iscrowd=1)])
    (table,) = export(path, ["parquet"], tmp_path)
    one, other = read_labels(path), read_labels(table)
    assert other.boxes.tolist() == one.boxes.tolist()
    assert other.flags["edge"].tolist() == [True, False]
    assert other.ignored.tolist() == [False, True]
    assert other.mask(0)[0].tolist() == one.mask(0)[0].tolist()


def test_an_annotation_that_is_not_whole_is_named(tmp_path):
    entries = [entry(1, 20, 20), entry(2, 50, 60)]
    del entries[1]["category_id"]
    with pytest.raises(InputError, match=r"annotations\[1\].*category_id.*astrolabel validate"):
        read_labels(dataset(tmp_path, entries))
    whole = read_labels(dataset(tmp_path, [entry(1, 20, 20), entry(2, 50, 60)]))
    entries[1] = {k: v for k, v in entry(2, 50, 60).items() if k not in ("bbox", "area")}
    mended = read_labels(dataset(tmp_path, entries))
    assert mended.boxes.tolist() == whole.boxes.tolist()
    assert mended.area.tolist() == whole.area.tolist()
    entries[1] = {**entry(2, 50, 60), "image_id": 9}
    with pytest.raises(InputError, match="image 9"):
        read_labels(dataset(tmp_path, entries))
    entries[1] = {**entry(2, 50, 60), "category_id": -1}
    with pytest.raises(InputError, match="category -1"):
        read_labels(dataset(tmp_path, entries))


def test_a_mask_that_cannot_be_decoded_is_named(tmp_path):
    broken = entry(1, 20, 20)
    broken["segmentation"]["counts"] = "zzzz"
    labels = read_labels(dataset(tmp_path, [broken]))
    with pytest.raises(InputError, match=r"coco\.json: annotation 1 "):
        labels.mask(0)


@pytest.mark.parametrize("box", [[1, 2, -3, 4], [1, float("nan"), 3, 4], [0, 0, 1e300, 1]])
def test_a_box_that_is_none_is_named(tmp_path, box):
    with pytest.raises(InputError, match="annotation 1 of the list"):
        read_labels(dataset(tmp_path, [{**entry(1, 20, 20), "bbox": box}]))


# Residuals.


def test_chi2_and_unexplained_light_are_those_of_the_residual(tmp_path):
    chi = np.zeros(SHAPE, np.float32)
    chi[18:23, 18:23] = 2.0  # under the first mask
    chi[50, 60] = 6.0  # in the second, so that it is no light without a label
    chi[70:72, 100:103] = 8.0  # a group outside
    chi[72, 103] = 8.0  # touches it at a corner
    chi[5, 5] = 5.5  # another
    chi[6, 100] = -9.0  # a hole is no light
    chi[90, 10] = np.nan
    labels = read_labels(dataset(tmp_path, [entry(1, 20, 20), entry(2, 50, 60)], chi))
    left = measure_residuals(labels)
    assert left.chi2.tolist() == pytest.approx([4.0, 36 / 25])
    (tile,) = left.tiles
    assert tile.groups_outside == 2
    assert tile.pixels_inside == 50
    assert tile.pixels_outside == 100 * 120 - 51
    assert tile.chi2_inside == pytest.approx((100 + 36) / 50)
    assert tile.chi2_outside == pytest.approx((7 * 64 + 5.5**2 + 81) / tile.pixels_outside)
    assert left.inside.sum() == 50
    assert left.outside.sum() == tile.pixels_outside


@pytest.mark.usefixtures("unsaved")
def test_a_label_without_data_has_no_chi2(tmp_path):
    chi = np.full(SHAPE, np.nan, np.float32)
    chi[60:] = 0
    labels = read_labels(dataset(tmp_path, [entry(1, 20, 20)], chi))
    left = measure_residuals(labels)
    assert np.isnan(left.chi2[0])
    assert np.isnan(left.chi2_inside)
    assert left.chi2_outside == 0
    write_report(measure(labels.path), tmp_path / "report.html")


@pytest.mark.parametrize("flags", [[None, "edge"], [1], {"a": 1}, 3])
def test_flags_that_are_no_texts_are_named(tmp_path, flags):
    one = entry(2, 20, 20)
    one["attributes"]["flags"] = flags
    with pytest.raises(InputError, match=r"annotation 2 of the list.*flags"):
        read_labels(dataset(tmp_path, [entry(1, 10, 10), one]))


def test_a_residual_of_another_size_is_refused(tmp_path):
    labels = read_labels(dataset(tmp_path, [entry(1, 20, 20)], np.zeros((9, 9), np.float32)))
    with pytest.raises(InputError, match=r"9x9 pixels, its image of 120x100"):
        measure_residuals(labels)


def test_a_reduced_residual_of_noise_is_noise_and_a_faint_plateau_shows():
    chi = np.random.default_rng(0).normal(0, 1, (200, 200)).astype(np.float32)
    chi[100:, 100:] += 1
    chi[:4, :4] = np.nan
    small = rebin(chi, 4)
    assert small.shape == (50, 50)
    assert np.isnan(small[0, 0])
    assert np.nanstd(small[:25, :25]) == pytest.approx(1, abs=0.1)
    assert small[25:, 25:].mean() == pytest.approx(4, abs=0.1)


def test_cutouts_tiles_and_residuals_show_the_first_row_at_the_bottom(tmp_path):
    chi = np.zeros(SHAPE, np.float32)
    chi[10:16, 30:36] = 31
    labels = read_labels(dataset(tmp_path, [entry(1, 12, 32)], chi))
    dark = np.zeros((*SHAPE, 3), np.uint8)
    dark[10:16, 30:36] = (0, 255, 0)
    Image.fromarray(dark).save(tmp_path / "images" / "a.png")

    def middle(uri, shown):
        """Row and column, as parts of the picture's height, of what is shown."""
        with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as opened:
            pixels = np.asarray(opened).astype(int)
        return np.argwhere(shown(pixels)).mean(axis=0) / pixels.shape[0], pixels

    def green(pixels):
        return pixels[..., 1] - pixels[..., 0] > 150

    def red(pixels):
        return pixels[..., 0] - pixels[..., 1] > 100

    tile, left = tile_pictures(labels, 0)
    for uri, shown in ((tile, green), (left, red)):
        assert middle(uri, shown)[0] == pytest.approx([0.87, 0.33], abs=0.02)
    # The window of 36 pixels ends at the image's first row and begins at column 14.
    cutout = draw(labels, Stamp(0, Box(10, 30, 5, 5), 0, None, ""))
    assert middle(cutout, green)[0] == pytest.approx([1 - 13 / 36, 0.5], abs=0.06)


def test_residual_colours():
    colours = residual_colours(np.array([[0, 5, -5, np.nan, 50]], np.float32))[0].tolist()
    white, red, blue, grey, more = colours
    assert white == [255, 255, 255]
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert grey == [160, 160, 160]
    assert more == red


# Catalog.


def hst_catalog(folder, positions, mu_class=None, mag=None):
    y, x = np.array(positions, float).T
    ra, dec = WCS.all_pix2world(x, y, 0)
    n = len(ra)
    table = Table(
        {
            "number": np.arange(n),
            "ra": ra,
            "dec": dec,
            "mu_class": np.ones(n, int) if mu_class is None else mu_class,
            "mag_auto": np.full(n, 22.0) if mag is None else mag,
        }
    )
    table.write(folder / "catalog.fits", overwrite=True)
    return folder / "catalog.fits"


def test_rates_and_offsets_against_a_catalog(tmp_path):
    spots = places(10)
    # Labels lie 0.1 arcsec east (ra grows to the left) and 0.06 north of their objects.
    wanted = [(y - 0.06 / SCALE, x + 0.1 / SCALE) for y, x in spots]
    alone = [(95, 60), (95, 80), (-30, 60)]  # the last is beyond the image
    fake = [(95, 100)]
    path = hst_catalog(tmp_path, wanted + alone + fake, [1] * 13 + [3], [21.0] * 8 + [25.0] * 6)
    entries = [entry(n + 1, y, x, mag_i=21.1) for n, (y, x) in enumerate(spots)]
    entries.append(entry(11, 95, 30))  # nothing there
    entries.append(entry(12, 95, 80, flags=["peak_outside"]))  # another tile's
    labels = read_labels(dataset(tmp_path, entries))
    found = compare_with_catalog(labels, read_catalog(path, "hst"), "i", 1.0)
    assert (found.n_labels, found.n_catalog, found.n_pairs) == (11, 12, 10)
    assert found.offset_arcsec == pytest.approx((0.1, 0.06), abs=1e-3)
    assert found.scatter_arcsec == pytest.approx((0, 0), abs=1e-3)
    assert (found.band, found.catalog_band) == ("i", "f814w")
    assert found.magnitude[0] == pytest.approx(0.1)
    rate = found.catalog_rate
    assert [n for n in rate.count if n] == [8, 4]
    assert rate.value[0] == 1
    assert rate.value[-1] == 0.5
    assert found.cells.sum() == 10


def test_a_match_across_right_ascension_zero(tmp_path):
    entries = [entry(1, 20, 20, ra=359.99999, dec=60.0), entry(2, 50, 60, ra=0.00002, dec=60.0)]
    cards = {**dict(WCS.to_header()), "CRVAL1": 0.0, "CRVAL2": 60.0}
    labels = read_labels(dataset(tmp_path, entries, wcs=cards))
    table = Table(
        {"number": [1, 2], "ra": [0.00001, 359.99997], "dec": [60.0, 60.0], "mu_class": [1, 1]}
    )
    table.write(tmp_path / "c.fits")
    found = compare_with_catalog(labels, read_catalog(tmp_path / "c.fits", "hst"), "i", 1.0)
    assert found.n_pairs == 2
    # 1e-5 and 2e-5 degrees of right ascension, at half their length on the sky.
    assert found.offset_arcsec[0] == pytest.approx(1.5e-5 * 3600 / 2, abs=1e-4)
    assert found.catalog_rate is None


@pytest.mark.usefixtures("unsaved")
def test_a_catalog_of_another_sky_and_labels_without_positions_are_said_so(tmp_path):
    path = hst_catalog(tmp_path, [(9000, 9000)])
    nowhere = [entry(n, 20 * n, 50, ra=None, dec=None) for n in (1, 2)]
    for entries, cards in ((some_entries(), dict(WCS.to_header())), (nowhere, None)):
        measured = measure(dataset(tmp_path, entries, wcs=cards), (path, "hst"))
        assert measured.catalog.n_pairs == measured.catalog.n_catalog == 0
        assert any("the catalog covers this sky" in note for note in notes(measured))
        page, _ = write_report(measured, tmp_path / "report.html")
        assert "no object here" in page.read_text()


# Truth.


def truth_of(folder, entries, **info):
    (folder / "truth").mkdir()
    return read_labels(dataset(folder / "truth", entries, info=info, name="truth.json"))


def test_labels_that_are_the_truth_are_perfect(tmp_path):
    entries = [entry(n + 1, y, x, n_blended=1 + n % 2) for n, (y, x) in enumerate(places())]
    labels = read_labels(dataset(tmp_path, entries))
    found = compare_with_truth(labels, truth_of(tmp_path, entries), "i")
    q = found.quality
    assert (q.completeness, q.purity, q.iou_isolated, q.iou_blended) == (1, 1, 1, 1)
    assert (q.n_truth, q.n_blended, q.n_labels) == (12, 6, 12)
    assert found.offset_px == pytest.approx(0, abs=1e-6)
    assert found.flux_bias == pytest.approx({"isolated": 0, "blended": 0})
    assert found.confusion["galaxy", "galaxy"] == 12


def test_missed_false_and_wrong_labels_are_told_apart(tmp_path):
    spots = places(12)
    truth = [
        entry(n + 1, y, x, snr=200.0, mag_i=20.0, n_blended=1 + (n >= 6))
        for n, (y, x) in enumerate(spots)
    ]
    mine = [
        entry(
            n + 1,
            y,
            x,
            side=5 if n < 6 else 3,
            snr=200.0,
            mag_i=20.0 - 0.1,
            category_id=1 + (n == 0),
        )
        for n, (y, x) in enumerate(spots[:9])  # three of the blended are missed
    ]
    mine.append(entry(10, 90, 60, snr=7.0))  # on a source too faint for a mask
    mine.append(entry(11, 90, 100, snr=7.0))  # on nothing
    labels = read_labels(dataset(tmp_path, mine))
    ra, dec = WCS.all_pix2world([60.5], [90.5], 0)
    faint = {"ra": ra.tolist(), "dec": dec.tolist()}
    found = compare_with_truth(labels, truth_of(tmp_path, truth, without_mask=faint), "i")
    q = found.quality
    assert q.completeness == pytest.approx(9 / 12)
    assert q.completeness_blended == pytest.approx(3 / 6)
    assert q.purity == pytest.approx(10 / 11)
    assert q.iou_isolated == 1
    assert q.iou_blended == pytest.approx(9 / 25)
    assert found.complete_list
    assert found.flux_bias["isolated"] == pytest.approx(10**0.04 - 1)
    assert found.confusion == {
        ("galaxy", "galaxy"): 8, ("galaxy", "star"): 1, ("star", "galaxy"): 0, ("star", "star"): 0
    }  # fmt: skip
    curve = found.completeness["n_blended"]["all"]
    assert curve.value[:2] == pytest.approx((1.0, 0.5))
    assert found.purity["snr"]["all"].value[0] == pytest.approx(0.5)
    # Without the list of faint sources the label on one of them is false.
    (tmp_path / "b").mkdir()
    poorer = compare_with_truth(labels, truth_of(tmp_path / "b", truth), "i")
    assert poorer.quality.purity == pytest.approx(9 / 11)
    assert not poorer.complete_list


@pytest.mark.parametrize(
    ("ra", "dec"), [([1.0], None), ([1.0], [None]), (1, 1), ([1.0, 2.0], [1.0]), (["x"], [1.0])]
)
def test_sources_without_a_place_are_refused(tmp_path, ra, dec):
    entries, faint = some_entries(), {"ra": ra, "dec": dec}
    labels = read_labels(dataset(tmp_path, entries))
    with pytest.raises(InputError, match="without_mask"):
        compare_with_truth(labels, truth_of(tmp_path, entries, without_mask=faint), "i")
    entries[1] = {**entries[1], "attributes": {}}
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="annotation 2 has no position"):
        compare_with_truth(labels, truth_of(tmp_path / "b", entries), "i")


def test_a_truth_of_another_sky_or_of_other_pixels_is_refused(tmp_path):
    entries = [entry(1, 50, 60)]
    labels = read_labels(dataset(tmp_path, entries))
    for name, cards, message in (
        ("far", {"CRVAL1": 20.0}, "no label lies"),
        ("half", {"CRPIX1": WCS.wcs.crpix[0] + 0.5}, "does not lie on the truth's pixels"),
    ):
        (tmp_path / name).mkdir()
        header = {**dict(WCS.to_header()), **cards}
        truth = read_labels(dataset(tmp_path / name, entries, wcs=header))
        with pytest.raises(InputError, match=message):
            compare_with_truth(labels, truth, "i")


# The page.


def made(tmp_path, entries, chi=None, info=None, **options):
    path = dataset(tmp_path, entries, chi, info)
    measured = measure(path, **options)
    page, machine = write_report(measured, tmp_path / "report.html")
    return measured, page.read_text(), json.loads(machine.read_text())


INFO = {
    "program": "astrolabel 9",
    "config": {"preset": "default", "classify": {"magnitude_band": "r"}},
    "flags": {
        "edge": "touches <the> edge",
        "late": {"bit": 3, "meaning": "from a registry"},
        "first": {"bit": 1, "meaning": "before it"},
    },
    "tiles": [
        {"name": "a", "state": "ok", "notes": {"psf_g": "read from psf.fits"}},
        {"name": "b", "state": "skipped:45 % of the pixels have no data", "notes": {}},
        {"name": "c", "state": "failed:out of luck", "notes": {}},
    ],
    "sources": {"ok": 12, "failed:zero flux": 3, "skipped:fake": 5},
}


def some_entries():
    return [
        entry(n + 1, y, x, category_id=1 + n % 2, flags=["edge"] if n < 3 else [])
        for n, (y, x) in enumerate(places())
    ]


def test_the_page_is_self_contained_and_its_plots_are_well_formed(tmp_path):
    chi = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
    path = hst_catalog(tmp_path, places())
    truth = truth_of(tmp_path, some_entries()).path
    _, page, _ = made(
        tmp_path, some_entries(), chi, INFO, catalog=(path, "hst"), truth=truth
    )  # fmt: skip
    assert not re.search(r"<(script|link|iframe|object)\b", page)
    assert not re.search(r"https?:|url\(|@import", page)
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) > 20
    assert all(s.startswith("data:image/") for s in sources)
    drawn = [s for s in sources if s.startswith("data:image/svg+xml;base64,")]
    assert len(drawn) > 15
    for uri in drawn:
        ET.fromstring(base64.b64decode(uri.partition(",")[2]))
    anchors = set(re.findall(r'href="#(\w+)"', page))
    assert anchors == set(re.findall(r'<h2 id="(\w+)"', page))
    assert str(tmp_path) not in page


@pytest.mark.usefixtures("unsaved")
def test_the_page_says_what_became_of_everything(tmp_path):
    _, page, found = made(tmp_path, some_entries(), info=INFO)
    for text in ("failed:out of luck", "45 % of the pixels", "failed:zero flux", "skipped:fake",
                 "touches &lt;the&gt; edge", "from a registry", "read from psf.fits",
                 "1 tiles failed"):  # fmt: skip
        assert text in page
    assert found["counts"]["tiles_by_kind"] == {"ok": 1, "skipped": 1, "failed": 1}
    assert found["counts"]["detections_with_class"] == [12, 17]
    assert found["counts"]["classes"] == {"galaxy": 6, "star": 6}
    assert found["counts"]["flags"] == {"edge": 3, "late": 0, "first": 0}
    # In the order of their bits.
    rows = [page.index(f"<td>{name}</td>") for name in ("first", "late", "edge")]
    assert rows == sorted(rows)
    assert found["verdict"]["detections_failed"] == pytest.approx(0.15)
    assert found["distributions"]["mag_r"]["medians"]["galaxy"] == pytest.approx(26.0)
    assert sum(found["distributions"]["snr"]["classes"]["star"]) == 6


@pytest.mark.usefixtures("unsaved")
def test_the_page_says_how_many_got_their_class_from_a_catalog(tmp_path):
    entries = [entry(1, 20, 20, object_id="7"), entry(2, 50, 60)]
    _, page, found = made(tmp_path, entries, info=INFO)
    assert "1 of 2 labels carry the id" in page
    assert "12 of 17 detections" in " ".join(page.split())
    assert found["counts"]["matched"] == 1


@pytest.mark.usefixtures("unsaved")
def test_what_is_not_given_is_asked_for(tmp_path):
    measured, page, found = made(tmp_path, some_entries())
    for text in ("--catalog FILE", "--truth truth.json", "label again", "not in the file"):
        assert text in page
    assert found["catalog"] is None
    assert found["truth"] is None
    assert found["verdict"]["completeness"] is None
    assert "needs --truth" in page
    known = [line for line in verdict(measured) if np.isfinite(line.value)]
    assert known == []
    assert summary(measured) == ""


def test_a_document_of_another_program_has_a_page(tmp_path):
    path = dataset(tmp_path, [])
    document = coco.read(path)
    del document["images"][0]["astro"], document["info"]
    document["annotations"] = [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 100.0,
         "bbox": [20, 30, 10, 10], "segmentation": [[20, 30, 30, 30, 30, 40, 20, 40]]}
    ]  # fmt: skip
    coco.write_json(path, document)
    measured = measure(path)
    page, _ = write_report(measured, tmp_path / "report.html")
    assert "1 galaxy" in page.read_text()
    assert measured.band is None


def test_a_document_without_labels_has_a_page_that_says_so(tmp_path):
    measured, page, _ = made(tmp_path, [], np.zeros(SHAPE, np.float32), INFO)
    assert "There are no labels." in notes(measured)
    assert "0 labels" in page


def test_the_same_labels_give_the_same_bytes(tmp_path):
    chi = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made(tmp_path / name, some_entries(), chi, INFO)
    for name in ("report.html", "report.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.usefixtures("unsaved")
def test_a_picture_that_is_missing_is_named_and_nothing_is_written(tmp_path):
    path = dataset(tmp_path, some_entries())
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(InputError, match=r"images/a\.png"):
        write_report(measure(path), tmp_path / "report.html")
    assert not list(tmp_path.glob("report.*"))


@pytest.mark.usefixtures("unsaved")
def test_wrong_models_and_lost_light_are_pointed_at(tmp_path):
    chi = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
    for y, x in places(3):
        chi[y - 2 : y + 3, x - 2 : x + 3] += 6
    chi[95, 5:110:3] = 20
    measured, page, found = made(tmp_path, some_entries(), chi, INFO)
    assert found["verdict"]["wrong_models"] == pytest.approx(3 / 12)
    assert found["residuals"]["groups_outside"] == 35
    said = " ".join(notes(measured))
    assert "25.0 % of the labels" in said
    assert "35 groups of pixels" in said
    # The worst explained come first.
    worst = page[page.index("Worst explained") :]
    assert re.search(r"χ² (\d+)\b", worst).group(1) in {"34", "35", "36", "37", "38", "39"}
    assert numbers(measured)["residuals"]["chi2_inside"] > 5


# The command.


def test_the_command_writes_the_page_and_its_numbers(tmp_path, capsys):
    path = dataset(tmp_path, some_entries(), np.zeros(SHAPE, np.float32), INFO)
    catalog = hst_catalog(tmp_path, places())
    words = ["report", str(path), "--catalog", str(catalog), "--scheme", "hst"]
    assert main([*words, "--out", str(tmp_path / "deep" / "page.html")]) == 0
    assert "catalog objects that have a label" in capsys.readouterr().out
    assert json.loads((tmp_path / "deep" / "page.json").read_text())["catalog"]["n_pairs"] == 12
    assert main(["report", str(path)]) == 0
    assert (tmp_path / "report.html").exists()
    assert main(["report", str(path), "--catalog", str(catalog)]) == 2
    assert "--scheme" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none.json")]) == 2
    assert "no such file" in capsys.readouterr().err


@pytest.mark.usefixtures("unsaved")
def test_a_place_that_cannot_be_written_is_said_so(tmp_path):
    measured = measure(dataset(tmp_path, some_entries()))
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match="taken"):
        write_report(measured, tmp_path / "taken" / "report.html")


@pytest.mark.usefixtures("unsaved")
def test_a_page_may_not_take_the_place_of_the_labels(tmp_path):
    path = dataset(tmp_path, some_entries())
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"coco\.json"):
        write_report(measure(path), tmp_path / "coco.html")
    assert path.read_bytes() == before


# A simulated sky, from pixels to page.


@pytest.mark.usefixtures("unsaved")
def test_a_simulated_sky_is_measured_as_the_benchmarks_measure_it(tmp_path):
    from astrolabel.core.config import ClassifyConfig, LabelConfig, TileConfig
    from astrolabel.io.find import Inputs, find_coadds
    from astrolabel.label.pipeline import make_coco
    from astrolabel.simulate import SimulateConfig, simulate

    sky = simulate(tmp_path / "sky", SimulateConfig(seed=4, size=256))
    config = LabelConfig(tile=TileConfig(size=128), classify=ClassifyConfig(scheme="hst"))
    path = sky.files["catalog_hst"]
    result = make_coco(
        find_coadds(Inputs((tmp_path / "sky",))), config, tmp_path / "out",
        (read_catalog(path, "hst"), path), progress=False,
    )  # fmt: skip
    measured = measure(result.coco, (path, "hst"), sky.files["truth"])
    frame = sky.scene.wcs
    documents = [coco.read(result.coco), coco.read(sky.files["truth"])]
    y0, x0 = documents[1]["images"][0]["astro"]["origin"]
    for document in documents:
        for image in document["images"]:
            y, x = image["astro"]["origin"]
            image["astro"]["origin"] = [y - y0, x - x0]
    mine, theirs = (metrics.instances(document, frame) for document in documents)
    injected = np.array([[s.body.y, s.body.x] for s in sky.scene.sources])
    assert measured.truth.quality == metrics.compare(mine, theirs, injected)
    assert measured.truth.quality.n_truth > 30
    assert len(measured.residuals.tiles) == 4
    # Of noise and good models: near one in and outside the masks of unsaturated sources.
    assert 0.8 < np.nanmedian(measured.residuals.chi2) < 1.2
    assert measured.counts.detections["ok"] == len(documents[0]["annotations"])
    assert measured.catalog.separation_arcsec < 0.2
    page, _ = write_report(measured, tmp_path / "out" / "report.html")
    assert "Worst outlines" in page.read_text()


# Links to the review page.


@pytest.mark.usefixtures("unsaved")
def test_examples_have_ids_and_places_and_link_to_the_review_page_beside_the_labels(tmp_path):
    entries = [entry(k, 10 + 9 * k, 8 + 8 * k) for k in range(1, 5)]
    entries[0]["attributes"]["flags"] = ["edge"]
    path = dataset(tmp_path, entries, chi=np.zeros(SHAPE, np.float32))
    measured = measure(path, progress=False)
    page, _ = write_report(measured, tmp_path / "reports" / "r.html")
    alone = page.read_text()
    assert "review/index.html#" not in alone
    found = re.findall(r"id (\d+) · x [\d.]+ y [\d.]+ · [\d.]+ [+-][\d.]+", alone)
    ids = {a["id"] for a in coco.read(path)["annotations"]}
    assert found
    assert {int(one) for one in found} <= ids
    assert main(["review", str(path)]) == 0
    page, _ = write_report(measured, tmp_path / "reports" / "r.html")
    links = re.findall(
        r'href="(\.\./review/index\.html#id=(\d+)&amp;image=[^"]+)"', page.read_text()
    )
    assert sorted(int(one) for _, one in links) == sorted(map(int, found))
    assert (page.parent / links[0][0].partition("#")[0]).resolve().is_file()
    assert '<a href="../review/index.html#flag=edge">edge</a>' in page.read_text()
    tile = urlencode({"image": coco.read(path)["images"][0]["file_name"]})
    assert f'<a href="../review/index.html#{tile}">' in page.read_text()


@pytest.mark.usefixtures("unsaved")
def test_the_page_opens_with_the_doubts_and_assumptions_of_the_run(tmp_path):
    note = {"kind": "noise", "band": "r", "text": "7 times the scatter", "severity": "doubt"}
    usual = {"kind": "psf", "band": "i", "text": "of 12 stars", "severity": "assumption"}
    tiles = [
        {"name": "a", "state": "ok", "notes": [usual, note]},
        {"name": "b", "state": "ok", "notes": [usual]},
    ]
    items = [entry(k + 1, y, x) for k, (y, x) in enumerate(places())]
    path = dataset(tmp_path, items, info={"tiles": tiles})
    measured = measure(path)
    page, machine = write_report(measured, tmp_path / "report.html")
    opening = page.read_text(encoding="utf-8").split("<nav>")[0]
    assert "r noise: 7 times the scatter (1 of 2 tiles)" in opening
    assert "i psf: of 12 stars</li>" in opening
    found = json.loads(machine.read_text(encoding="utf-8"))
    assert found["doubts"] == ["r noise: 7 times the scatter (1 of 2 tiles)"]
    assert found["assumptions"] == ["i psf: of 12 stars"]


@pytest.mark.usefixtures("unsaved")
def test_a_page_without_doubts_shows_no_empty_list(tmp_path):
    page, _ = write_report(measure(dataset(tmp_path, [entry(1, 50, 60)])), tmp_path / "report.html")
    text = page.read_text(encoding="utf-8")
    assert "Doubts" not in text
    assert "<ul>" not in text


def test_positions_that_are_not_the_pixels_are_said(tmp_path):
    items = [entry(k + 1, y, x) for k, (y, x) in enumerate(places())]
    for item in items[4:6]:
        about = item["attributes"]
        about["ra"], about["dec"] = about["dec"], about["ra"]
    measured = measure(dataset(tmp_path, items))
    said = " ".join(notes(measured))
    assert "images/a.png: ra, dec of 2 of 12 annotations" in said
    assert sorted(measured.misplaced[0].ids) == [5, 6]
    assert numbers(measured)["misplaced"]["images/a.png"]["checked"] == 12


def test_labels_of_one_size_are_said_and_those_of_many_sizes_are_not(tmp_path):
    cells = [(y, x) for y in range(10, 90, 12) for x in range(10, 110, 12)][:40]
    same = [entry(k + 1, y, x) for k, (y, x) in enumerate(cells)]
    varied = [entry(k + 1, y, x, side=(3, 5, 7, 9)[k % 4]) for k, (y, x) in enumerate(cells)]
    assert "Most labels are of one size" in " ".join(notes(measure(dataset(tmp_path / "a", same))))
    assert "one size" not in " ".join(notes(measure(dataset(tmp_path / "b", varied))))


@pytest.mark.parametrize(("sigma", "said"), [(3.0, "too small"), (0.5, "too large"), (1.0, "")])
def test_chi2_far_from_1_is_said(tmp_path, sigma, said):
    rng = np.random.default_rng(2)
    chi = rng.normal(0, sigma, SHAPE).astype(np.float32)
    items = [entry(k + 1, y, x) for k, (y, x) in enumerate(places())]
    text = " ".join(notes(measure(dataset(tmp_path, items, chi))))
    assert ("far from 1: the noise is " + said in text) if said else ("far from 1" not in text)
