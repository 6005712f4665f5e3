import html
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from astrolabel.core.box import Box
from astrolabel.core.errors import InputError, OutputError
from astrolabel.io import coco
from astrolabel.io.colours import IGNORED, PALETTE, colours
from astrolabel.io.pictures import rgb, white_balance, write_png
from astrolabel.report.preview import draw_outlines, preview

DATA = Path(__file__).parents[4] / "shared" / "data"
CATEGORIES = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}]
SHAPE = (40, 50)


def channels(colour):
    return [int(colour[n : n + 2], 16) for n in (1, 3, 5)]


def field(fluxes, size=120, n=60, seed=1):
    """Gaussian sources on unit noise: (C, size, size), `fluxes` the peaks per band."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(len(fluxes), size, size)).astype(np.float32)
    y, x = np.mgrid[:size, :size]
    for cy, cx in rng.uniform(5, size - 5, (n, 2)):
        shape = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 2.0**2))
        image += np.array(fluxes, np.float32)[:, None, None] * shape.astype(np.float32)
    return image


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 7])
def test_any_number_of_bands_makes_a_picture(bands):
    picture = rgb(field([20.0] * bands))
    assert picture.shape == (120, 120, 3)
    assert picture.dtype == np.uint8
    assert picture.max() > 100


def test_one_band_is_grey():
    picture = rgb(field([20.0]))
    assert (picture == picture[..., :1]).all()


@pytest.mark.parametrize("bands", [2, 3, 6])
def test_the_last_band_is_red_and_the_first_blue(bands):
    image = np.random.default_rng(1).normal(size=(bands, 60, 60)).astype(np.float32)
    image[-1, 10:14, 10:14] += 50
    image[0, 40:44, 40:44] += 50
    picture = rgb(image).astype(int)
    red, blue = picture[12, 12], picture[42, 42]
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50


def test_units_sky_level_and_byte_order_do_not_change_the_picture():
    image = field([20.0, 30.0, 40.0])
    other = (image * np.float32(3e-11)) + np.float32(2e-10)
    difference = rgb(image).astype(int) - rgb(other.astype(">f4"))
    assert np.abs(difference).max() <= 1


def test_the_usual_source_is_white_whichever_band_is_deepest():
    image = field([10.0, 30.0, 15.0])
    gains = white_balance(image)
    assert gains[0] / gains[1] == pytest.approx(3.0, rel=0.15)
    assert gains[2] / gains[1] == pytest.approx(2.0, rel=0.15)
    picture = rgb(image).astype(float)
    bright = picture[image.mean(0) > 12].mean(0)
    np.testing.assert_allclose(bright, bright.mean(), rtol=0.06)


def test_one_source_does_not_set_the_white():
    assert white_balance(field([10.0, 30.0, 15.0], n=1)).tolist() == [1, 1, 1]
    assert white_balance(np.full((2, 9, 9), np.nan, np.float32)).tolist() == [1, 1]


def test_given_noise_and_gains_are_used():
    image = field([20.0, 20.0, 20.0])
    faint = rgb(image, [10.0, 10.0, 10.0], [1, 1, 1])
    assert faint.mean() < 0.7 * rgb(image, [1.0, 1.0, 1.0], [1, 1, 1]).mean()
    red = rgb(image, [1.0] * 3, [1, 1, 3]).astype(int)
    assert red[..., 0].mean() > red[..., 2].mean() + 5


def test_holes_are_black_and_a_band_without_data_is_sky():
    image = field([20.0, 20.0, 20.0])
    image[:, :20] = np.nan
    image[1, 30:40] = np.inf
    picture = rgb(image)
    assert (picture[:20] == 0).all()
    assert picture[30:40].max() > 0
    assert (rgb(np.full((3, 8, 8), np.nan, np.float32)) == 0).all()


def test_a_flat_image_makes_a_flat_picture():
    picture = rgb(np.full((3, 8, 8), 7.0, np.float32))
    assert len(np.unique(picture)) == 1


def test_real_sky_is_dark_and_real_sources_stand_out():
    if not DATA.is_dir():
        pytest.skip(f"no {DATA}")
    from astropy.io import fits

    image = np.stack([fits.getdata(DATA / f"decals_dr7_{b}.fits") for b in "grz"])
    picture = rgb(image).astype(int)
    r = image[1].astype(float)
    noise = 1.4826 * np.median(np.abs(r - np.median(r)))
    sky, sources = picture[np.abs(r) < noise], picture[(r > 5 * noise) & (r < 20 * noise)]
    np.testing.assert_allclose(np.median(sky, axis=0), np.median(sky), atol=6)  # no tint
    assert np.median(sky) < 30
    assert np.median(sources) > 2 * np.median(sky) + 20
    assert (picture.min(-1) > 250).mean() < 0.002  # next to nothing is burnt out


def test_png_is_written_as_it_is(tmp_path):
    picture = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    write_png(tmp_path / "deep" / "a.png", picture)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "deep" / "a.png")), picture)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_png(tmp_path / "file" / "a.png", picture)


def label(y, x, height, width, category=1, iscrowd=0):
    return coco.annotation(
        mask=np.ones((height, width), bool),
        box=Box(y, x, height, width),
        image_shape=SHAPE,
        category_id=category,
        attributes={},
        iscrowd=iscrowd,
    )


def test_only_the_edge_is_drawn_in_the_colour_of_the_class():
    black = np.zeros((*SHAPE, 3), np.uint8)
    drawn = draw_outlines(black, [label(5, 6, 7, 8), label(20, 30, 5, 5, 2)], CATEGORIES)
    assert not black.any()
    expected = np.zeros_like(black)
    expected[5:12, 6:14] = channels(PALETTE[0])
    expected[6:11, 7:13] = 0
    expected[20:25, 30:35] = channels(PALETTE[1])
    expected[21:24, 31:34] = 0
    np.testing.assert_array_equal(drawn, expected)


def test_a_mask_cut_by_the_image_is_closed_at_its_border():
    drawn = draw_outlines(np.zeros((*SHAPE, 3), np.uint8), [label(0, 0, 4, 4)], CATEGORIES)
    assert drawn[:4, 0].all()
    assert drawn[0, :4].all()
    assert not drawn[1:3, 1:3].any()


def test_enlarged_outlines_stay_thin():
    picture = np.full((*SHAPE, 3), 9, np.uint8)
    drawn = draw_outlines(picture, [label(5, 6, 7, 8)], CATEGORIES, scale=3)
    assert drawn.shape == (120, 150, 3)
    assert (drawn[15, 18:42] == channels(PALETTE[0])).all()
    assert (drawn[16:35, 19:41] == 9).all()


def test_ignore_regions_are_dotted_grey_and_under_the_labels():
    drawn = draw_outlines(
        np.zeros((*SHAPE, 3), np.uint8),
        [label(5, 5, 9, 9, 2), label(5, 5, 20, 20, 1, iscrowd=1)],
        CATEGORIES,
    )
    colours_seen = {tuple(c) for c in drawn.reshape(-1, 3).tolist()}
    assert colours_seen == {(0, 0, 0), tuple(channels(IGNORED)), tuple(channels(PALETTE[1]))}
    dotted = drawn[24, 5:25].any(-1)
    assert 8 <= dotted.sum() <= 12
    assert (drawn[5, 5:14] == channels(PALETTE[1])).all()


def test_polygons_are_drawn_and_broken_masks_refused():
    item = label(5, 6, 7, 8)
    item["segmentation"] = [[6, 5, 14, 5, 14, 12, 6, 12]]
    blank = np.zeros((*SHAPE, 3), np.uint8)
    np.testing.assert_array_equal(
        draw_outlines(blank, [item], CATEGORIES),
        draw_outlines(blank, [label(5, 6, 7, 8)], CATEGORIES),
    )
    item["segmentation"] = {"size": list(SHAPE), "counts": "o"}
    with pytest.raises(ValueError, match="cut off"):
        draw_outlines(blank, [item], CATEGORIES)


def test_no_two_of_the_first_classes_share_a_colour():
    many = colours([{"id": n, "name": str(n)} for n in range(1, 7)])
    assert len({*many.values(), IGNORED}) == 7


@pytest.fixture
def dataset(tmp_path):
    shards = []
    for name, items in (
        ("a/tile.png", [label(5, 6, 7, 8), label(20, 30, 5, 5, 2)]),
        ("b/tile.png", [label(5, 6, 7, 8, 1, iscrowd=1), label(1, 1, 4, 4)]),
        ("<c> & d.png", []),
    ):
        write_png(tmp_path / name, np.full((*SHAPE, 3), 20, np.uint8))
        image = {"file_name": name, "height": SHAPE[0], "width": SHAPE[1]}
        shards.append({"image": image, "annotations": items})
    coco.write_json(tmp_path / "coco.json", coco.merge({}, CATEGORIES, shards))
    return tmp_path / "coco.json"


def test_preview_draws_each_image_and_a_page_of_all(dataset, tmp_path):
    written = preview(dataset, tmp_path / "out")
    assert [path.name for path in written] == [
        "a_tile_labels.png", "b_tile_labels.png", "<c> & d_labels.png", "index.html",
    ]  # fmt: skip
    picture = np.asarray(Image.open(written[0]))
    assert picture.shape == (320, 400, 3)  # small images are enlarged
    assert (picture[40, 48:112] == channels(PALETTE[0])).all()
    page = written[-1].read_text()
    assert "<c>" not in page
    assert "&lt;c&gt; &amp; d.png" in page
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) == 6
    assert all((tmp_path / "out" / html.unescape(link)).is_file() for link in links)
    total = re.sub("<[^>]+>", "", page.split("<p>")[1].split("</p>")[0])
    assert total.split() == ["3", "images,", "2", "galaxy", "1", "star", "1", "ignored"]


@pytest.mark.parametrize("astro", [{"wcs": {"CTYPE1": "RA---TAN"}}, {"cube": "a.fits"}, {}, None])
def test_the_sky_has_its_first_row_at_the_bottom_and_its_left_on_the_left(tmp_path, astro):
    picture = np.zeros((*SHAPE, 3), np.uint8)
    picture[3, 7] = 200
    write_png(tmp_path / "a.png", picture)
    image = {"file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}
    if astro is not None:
        image["astro"] = astro
    shard = {"image": image, "annotations": [label(20, 30, 5, 5)]}
    coco.write_json(tmp_path / "coco.json", coco.merge({}, CATEGORIES, [shard]))
    drawn = np.asarray(Image.open(preview(tmp_path / "coco.json")[0]))
    height, scale = drawn.shape[0], drawn.shape[0] // SHAPE[0]
    rows = [3, 20]
    if astro:  # a picture of unknown origin stays as it is
        rows = [SHAPE[0] - 1 - 3, SHAPE[0] - 1 - 24]
    point = drawn[rows[0] * scale : (rows[0] + 1) * scale, 7 * scale : 8 * scale]
    assert (point == 200).all()
    assert (drawn == 200).all(axis=-1).sum() == scale**2
    outlined = np.argwhere((drawn == channels(PALETTE[0])).all(axis=-1))
    assert outlined.min(axis=0).tolist() == [rows[1] * scale, 30 * scale]
    assert outlined.max() < height * SHAPE[1] // SHAPE[0]
    # The dataset's own picture keeps row 0 first, as masks count.
    assert (np.asarray(Image.open(tmp_path / "a.png"))[3, 7] == 200).all()


def test_preview_goes_beside_the_document_and_twice_is_the_same(dataset):
    first = {path: path.read_bytes() for path in preview(dataset)}
    assert all(path.parent == dataset.parent / "preview" for path in first)
    assert {path: path.read_bytes() for path in preview(dataset)} == first


def test_a_missing_image_is_named_and_nothing_written(dataset, tmp_path):
    (tmp_path / "b" / "tile.png").unlink()
    with pytest.raises(InputError, match="the image is missing") as caught:
        preview(dataset, tmp_path / "out")
    assert caught.value.file == str(tmp_path / "b" / "tile.png")
    assert not (tmp_path / "out").exists()


def test_images_and_labels_that_cannot_be_read_are_named(dataset, tmp_path):
    doc = coco.read(dataset)
    doc["annotations"][0]["segmentation"]["counts"] = "o"
    coco.write_json(dataset, doc)
    with pytest.raises(InputError, match=r"labels of a/tile\.png cannot be drawn") as caught:
        preview(dataset, tmp_path / "out")
    assert "astrolabel validate" in caught.value.remedy
    (tmp_path / "a" / "tile.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be opened"):
        preview(dataset, tmp_path / "out")


def test_a_document_that_does_not_say_its_images_is_refused(dataset, tmp_path):
    doc = coco.read(dataset)
    del doc["images"][1]["file_name"]
    coco.write_json(dataset, doc)
    with pytest.raises(InputError, match=r"images\[1\]: .*`file_name`"):
        preview(dataset, tmp_path / "out")
