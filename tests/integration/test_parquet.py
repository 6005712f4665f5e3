"""A label table of one package is a dataset of the other."""

import pytest

pytest.importorskip("pyarrow")

from astrolabel.cli.main import main as astrolabel
from astrolabel.io import coco
from astroseg.core.errors import InputError
from astroseg.data.dataset import read_dataset
from astroseg.data.parquet import read_labels


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    sky = str(folder / "sky")
    assert astrolabel(["simulate", sky, "--size", "160", "--seed", "3"]) == 0
    out = folder / "out"
    assert astrolabel(["make-coco", sky, "--out", str(out), "--tile-size", "80", "--quiet"]) == 0
    assert astrolabel(["export", str(out / "coco.json"), "--to", "parquet"]) == 0
    return out


def test_a_table_is_the_same_document(labels):
    document = read_labels(labels / "coco.parquet")
    written = coco.read(labels / "coco.json")
    assert len(document["annotations"]) > 5
    # A row has every column: what a label lacks (a point has no Sersic index) is null.
    every = {key for item in written["annotations"] for key in item["attributes"]}
    for item in written["annotations"]:
        item["attributes"] = dict.fromkeys(every) | item["attributes"]
    assert document == written


def test_a_table_is_the_same_dataset(labels):
    table, text = (read_dataset(labels / f"coco.{kind}") for kind in ("parquet", "json"))
    assert table.classes == text.classes
    assert table.images == text.images
    assert [t.masks for t in table.truth] == [t.masks for t in text.truth]
    assert [t.labels.tolist() for t in table.truth] == [t.labels.tolist() for t in text.truth]


def test_other_tables_are_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"ra": [1.0]}), tmp_path / "catalog.parquet")
    with pytest.raises(InputError, match="not of labels"):
        read_labels(tmp_path / "catalog.parquet")
    (tmp_path / "text.parquet").write_text("ra")
    with pytest.raises(InputError, match=r"text\.parquet.*cannot be read as Parquet"):
        read_labels(tmp_path / "text.parquet")
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "none.parquet")
