"""Labels in the formats of other tools, and back."""

import json
import zipfile

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image

from astrolabel.cli.main import main
from astrolabel.core.box import Box
from astrolabel.core.errors import InputError, OutputError
from astrolabel.export import FORMATS
from astrolabel.export.convert import export
from astrolabel.export.croissant import describe
from astrolabel.export.regions import outlines
from astrolabel.io import coco
from astrolabel.io.parquet import read_parquet, write_parquet
from astrolabel.io.pictures import check_picture

SHAPE = (40, 50)
BLOB = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0]], bool)


def wcs_cards():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = 150.0, 2.0
    wcs.wcs.crpix = 25.5, 20.5
    wcs.wcs.cd = [[-5e-5, 0], [0, 5e-5]]
    header = wcs.to_header()
    return {key: header[key] for key in header}


def document(with_wcs=True):
    images = [
        {
            "file_name": f"images/{name}.png",
            "height": SHAPE[0],
            "width": SHAPE[1],
            "astro": {"bands": ["g", "r"], "wcs": wcs_cards() if with_wcs else None},
        }
        for name in ("a", "b")
    ]
    shards = [
        {
            "image": images[k],
            "annotations": [
                coco.annotation(
                    mask=BLOB,
                    box=Box(y, 10 * y % 40, *BLOB.shape),
                    image_shape=SHAPE,
                    category_id=1 + y % 2,
                    attributes={"ra": 150 + y, "mag_g": 20.5, "object_id": None, "flags": ["edge"]},
                )
                for y in range(3 * k, 3 * k + 4)
            ],
        }
        for k in range(2)
    ]
    classes = [{"id": 1, "name": "galaxy"}, {"id": 2, "name": "star"}]
    return coco.merge({"description": "test", "version": "1.2"}, classes, shards)


@pytest.fixture
def dataset(tmp_path):
    doc = document()
    for image in doc["images"]:
        path = tmp_path / image["file_name"]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", SHAPE[::-1]).save(path)
    coco.write_json(tmp_path / "coco.json", doc)
    return tmp_path


def test_parquet_holds_the_whole_document(tmp_path):
    pytest.importorskip("pyarrow")
    doc = document()
    write_parquet(tmp_path / "labels.parquet", doc)
    assert read_parquet(tmp_path / "labels.parquet") == doc
    assert coco.read(tmp_path / "labels.parquet") == doc


def test_parquet_reads_as_a_catalog(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet(tmp_path / "labels.parquet", document())
    table = parquet.read_table(tmp_path / "labels.parquet")
    assert table["ra"].to_pylist()[:2] == [150, 151]
    assert table["category"].to_pylist()[:2] == ["galaxy", "star"]
    assert table["bbox_width"].to_pylist() == [4] * 8
    assert table["flags"].to_pylist()[0] == ["edge"]


def test_equal_documents_give_equal_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    for name in ("a", "b"):
        write_parquet(tmp_path / name, document())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_document_without_annotations_survives_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    doc = {**document(), "annotations": []}
    write_parquet(tmp_path / "labels.parquet", doc)
    assert read_parquet(tmp_path / "labels.parquet") == doc


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[0, 0, 4, 0, 4, 4]]}, "annotation 1 is not compressed RLE"),
        ({"attributes": {"area": 3}}, "'area' has the name of a column"),
        ({"attributes": {"ra": "east"}}, "'ra' mixes kinds of values"),
    ],
)
def test_what_a_table_cannot_hold_is_named(tmp_path, change, message):
    pytest.importorskip("pyarrow")
    doc = document()
    doc["annotations"][0].update(change)
    with pytest.raises(InputError, match=message):
        write_parquet(tmp_path / "labels.parquet", doc)
    assert not list(tmp_path.iterdir())


def test_other_parquet_files_are_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    with pytest.raises(InputError, match="no such file"):
        read_parquet(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("ra,dec")
    with pytest.raises(InputError, match=r"text\.parquet.*cannot be read as a table of labels"):
        read_parquet(tmp_path / "text.parquet")
    parquet.write_table(pyarrow.table({"ra": [1.0]}), tmp_path / "catalog.parquet")
    with pytest.raises(InputError, match="not of labels"):
        coco.read(tmp_path / "catalog.parquet")


def test_outlines_run_along_the_edges_of_the_pixels():
    (ring,) = outlines(coco.encode(BLOB, Box(5, 7, *BLOB.shape), SHAPE))
    corners = {tuple(p) for p in ring.tolist()}
    assert corners == {
        (7.5, 4.5), (9.5, 4.5), (9.5, 5.5), (10.5, 5.5), (10.5, 6.5), (9.5, 6.5),
        (9.5, 7.5), (7.5, 7.5), (7.5, 6.5), (6.5, 6.5), (6.5, 5.5), (7.5, 5.5),
    }  # fmt: skip


def test_outlines_enclose_as_many_pixels_as_the_mask_has():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random(SHAPE) < 0.6
        rings = outlines(coco.encode(mask, Box.of_shape(SHAPE), SHAPE))
        seen = np.zeros(SHAPE)
        for ring in rings:
            y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
            seen += _inside(ring, y, x)
        # Holes count as inside, and no pixel of the mask is outside all pieces.
        assert (seen[mask] >= 1).all()
        assert len(rings) == _pieces(mask)


def _inside(ring, y, x):
    """Whether pixels are inside a ring, by the crossings of a ray to the right."""
    crossings = np.zeros(y.shape, int)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if x0 == x1:
            crossings += (x0 > x) & (min(y0, y1) < y) & (y < max(y0, y1))
    return crossings % 2 == 1


def _pieces(mask):
    from scipy import ndimage

    return ndimage.label(mask)[1]


def test_an_empty_mask_has_no_outline():
    rle = coco.encode(np.zeros((1, 1), bool), Box(0, 0, 1, 1), SHAPE)
    assert outlines(rle) == []


def test_a_run_over_the_last_row_goes_on_in_the_next_column():
    mask = np.ones(SHAPE, bool)
    (ring,) = outlines(coco.encode(mask, Box.of_shape(SHAPE), SHAPE))
    assert len(ring) == 4


def test_regions_lie_on_the_sky_where_the_image_has_a_wcs(dataset):
    export(dataset / "coco.json", ["ds9"])
    text = (dataset / "regions" / "a.reg").read_text()
    lines = text.splitlines()
    assert lines[2] == "icrs"
    polygons = [line for line in lines if line.startswith("polygon")]
    assert len(polygons) == 4
    assert polygons[0].endswith("# color=cyan text={1} tag={galaxy}")
    numbers = np.array(polygons[0].split("(")[1].split(")")[0].split(","), float)
    x, y = WCS(fits.Header(wcs_cards())).all_world2pix(numbers[::2], numbers[1::2], 0)
    assert (x.min(), x.max()) == pytest.approx((-0.5, 3.5), abs=0.01)
    assert (y.min(), y.max()) == pytest.approx((-0.5, 2.5), abs=0.01)


def test_regions_without_a_wcs_count_pixels_from_one(tmp_path):
    coco.write_json(tmp_path / "coco.json", document(with_wcs=False))
    export(tmp_path / "coco.json", ["ds9"], tmp_path / "out")
    lines = (tmp_path / "out" / "regions" / "a.reg").read_text().splitlines()
    assert lines[2] == "image"
    numbers = np.array(lines[3].split("(")[1].split(")")[0].split(","), float)
    assert numbers[::2].min() == 0.5


def test_cvat_zip_holds_labels_and_pictures_and_no_date(dataset):
    for name in ("one", "two"):
        export(dataset / "coco.json", ["cvat"], dataset / name)
    first = dataset / "one" / "coco-cvat.zip"
    assert first.read_bytes() == (dataset / "two" / "coco-cvat.zip").read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == [
            "annotations/instances_default.json",
            "images/a.png",
            "images/b.png",
        ]
        doc = json.loads(archive.read("annotations/instances_default.json"))
    assert [image["file_name"] for image in doc["images"]] == ["a.png", "b.png"]
    assert doc["annotations"] == coco.read(dataset / "coco.json")["annotations"]


def test_cvat_zip_needs_the_pictures(dataset):
    (dataset / "images" / "b.png").unlink()
    with pytest.raises(InputError, match=r"b\.png.*no such file"):
        export(dataset / "coco.json", ["cvat"])
    assert not list(dataset.glob("*.zip"))


def test_croissant_describes_the_files(dataset):
    export(dataset / "coco.json", ["croissant"])
    found = json.loads((dataset / "croissant.json").read_text())
    labels, pictures = found["distribution"]
    assert labels["contentUrl"] == "coco.json"
    assert len(labels["sha256"]) == 64
    assert pictures["includes"] == "images/*.png"
    assert found["description"] == "test: 8 masks (galaxy, star) in 2 images of the bands g, r"
    assert found["recordSet"][1]["data"][1] == {"categories/id": 2, "categories/name": "star"}


def test_croissant_holds_in_the_reference_reader(dataset):
    mlcroissant = pytest.importorskip("mlcroissant")
    export(dataset / "coco.json", ["croissant"])
    read = mlcroissant.Dataset(dataset / "croissant.json")
    assert [r["annotations/id"] for r in read.records("annotations")] == list(range(1, 9))
    assert len(list(read.records("pictures"))) == 2


def test_datumaro_imports_the_cvat_zip(dataset, tmp_path):
    datumaro = pytest.importorskip("datumaro")
    export(dataset / "coco.json", ["cvat"])
    with zipfile.ZipFile(dataset / "coco-cvat.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    items = list(datumaro.Dataset.import_from(str(tmp_path / "unpacked"), "coco_instances"))
    masks = [a for item in items for a in item.annotations if a.type.name == "mask"]
    assert sorted(item.id for item in items) == ["a", "b"]
    assert len(masks) == 8
    assert masks[0].attributes["mag_g"] == 20.5


def test_fiftyone_imports_the_dataset(dataset):
    importer = pytest.importorskip("fiftyone.utils.coco").COCODetectionDatasetImporter(
        data_path=str(dataset), labels_path=str(dataset / "coco.json"), label_types="segmentations"
    )
    with importer:
        found = {path: len(labels.detections) for path, _, labels in importer}
    assert found == {str(dataset / f"images/{name}.png"): 4 for name in "ab"}


def test_croissant_does_not_describe_a_table(tmp_path):
    with pytest.raises(InputError, match="not its Parquet table"):
        describe(tmp_path / "coco.parquet", document())


def test_a_faulty_file_is_exported_to_nothing(dataset):
    doc = document()
    doc["annotations"][0]["image_id"] = 99
    coco.write_json(dataset / "coco.json", doc)
    with pytest.raises(InputError, match="faulty"):
        export(dataset / "coco.json", ["ds9"])
    assert not (dataset / "regions").exists()


# Croissant's file lies beside the labels; the other two have writers of their own.
@pytest.mark.parametrize("form", sorted({*FORMATS} - {"croissant", "hats", "models"}))
def test_an_unwritable_folder_is_named(dataset, form):
    (dataset / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/.*cannot be written"):
        export(dataset / "coco.json", [form], dataset / "file")


def test_the_command_goes_to_parquet_and_back(dataset, capsys):
    pytest.importorskip("pyarrow")
    assert main(["export", str(dataset / "coco.json"), "--to", "parquet"]) == 0
    table = str(dataset / "coco.parquet")
    assert main(["export", table, "--to", "coco", "--out", str(dataset / "again")]) == 0
    assert capsys.readouterr().out.splitlines() == [table, str(dataset / "again" / "coco.json")]
    again = coco.read(dataset / "again" / "coco.json")
    assert [i["file_name"] for i in again["images"]] == ["../images/a.png", "../images/b.png"]
    assert coco.validate(again, dataset / "again") == ()
    before = (dataset / "coco.json").read_bytes()
    (dataset / "coco.json").unlink()
    assert main(["export", table, "--to", "coco"]) == 0
    assert (dataset / "coco.json").read_bytes() == before


def test_a_missing_picture_comes_with_what_to_give(tmp_path):
    with pytest.raises(InputError, match=r"no such file.*give --images DIR"):
        check_picture(tmp_path / "none.png", remedy="give --images DIR")
