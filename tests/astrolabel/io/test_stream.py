"""Annotations that are read as they are looped over are those of the whole document."""

import copy
import datetime
import json
import tracemalloc
from decimal import Decimal

import pytest

from astrolabel.core.errors import InputError
from astrolabel.io import coco, parquet
from astrolabel.io.stream import Annotations
from astrolabel.io.validate import validate


def document(labels=7):
    mask = {"size": [8, 9], "counts": "X12"}
    return {
        "info": {"description": "x"},
        "categories": [{"id": 1, "name": "galaxy"}],
        "images": [{"id": k, "file_name": f"{k}.png", "height": 8, "width": 9} for k in (1, 2)],
        "annotations": [
            {
                "id": k, "image_id": 1 + k % 2, "category_id": 1, "iscrowd": 0, "area": 3 + k % 5,
                "bbox": [1.0, 2.0, 3.0, 4.0], "segmentation": mask,
                "attributes": {"ra": 150 + k / 7, "flags": ["a"] if k % 2 else [], "n": k},
            }
            for k in range(1, labels + 1)
        ],
    }  # fmt: skip


@pytest.mark.parametrize("labels", [1, 7])
def test_a_file_of_ours_is_read_line_by_line_and_as_often_as_one_likes(tmp_path, labels):
    doc = document(labels)
    coco.write_json(tmp_path / "a.json", doc)
    found = coco.read_stream(tmp_path / "a.json")
    assert isinstance(found["annotations"], Annotations)
    assert len(found["annotations"]) == labels
    for _ in range(2):
        assert {**found, "annotations": list(found["annotations"])} == doc
    coco.write_document(tmp_path / "b.json", found)
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a.json").read_bytes()


@pytest.mark.parametrize("write", [
    lambda doc: json.dumps(doc),
    lambda doc: json.dumps(doc, indent=1),
    lambda doc: coco.to_json({**doc, "annotations": []}),
    lambda doc: coco.to_json({**doc, "zebra": 1}),
    lambda doc: coco.to_json(doc) + "\n",
])  # fmt: skip
def test_a_file_that_is_laid_out_otherwise_is_read_whole(tmp_path, write):
    (tmp_path / "a.json").write_text(write(document()))
    found = coco.read_stream(tmp_path / "a.json")
    assert isinstance(found["annotations"], list)
    assert found == json.loads((tmp_path / "a.json").read_text())


@pytest.mark.parametrize("line", [
    b'{"id": 9,},\n', b'{"a": ' + b"9" * 5000 + b"},\n", b'{"a": "\\ud800"},\n',
    b"{" + b'"a":{' * 100_000 + b"},\n", b'{"a": "\xff},\n',
])  # fmt: skip
def test_a_faulty_line_is_told_when_it_is_reached(tmp_path, line):
    path = tmp_path / "a.json"
    start, end = coco.to_json(document()).encode().split(b'"annotations": [\n')
    path.write_bytes(start + b'"annotations": [\n' + line + end)
    found = coco.read_stream(path)
    with pytest.raises(InputError, match=r"a\.json"):
        list(found["annotations"])


def test_validate_finds_the_same_in_the_same_order(tmp_path):
    doc = document()
    doc["images"][1]["height"] = -1
    a = doc["annotations"]
    a[0]["area"] = "large"
    a[2]["id"] = a[1]["id"]
    a[3]["category_id"] = 5
    a[4]["bbox"] = [0.0, 0.0, 99.0, 1.0]
    a[5] = {"id": "x"}
    coco.write_json(tmp_path / "a.json", doc)
    read = coco.read_stream(tmp_path / "a.json")
    assert validate(read, sky=True) == validate(copy.deepcopy(doc), sky=True)
    assert len(validate(read)) > 5


def peak(work):
    tracemalloc.start()
    work()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def test_memory_is_that_of_an_annotation_not_of_all(tmp_path):
    coco.write_json(tmp_path / "a.json", document(20_000))
    whole = peak(lambda: coco.read(tmp_path / "a.json"))
    assert peak(lambda: sum(1 for _ in coco.read_stream(tmp_path / "a.json")["annotations"])) < (
        whole / 50
    )


def test_a_table_is_written_and_read_in_groups(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 3)
    monkeypatch.setattr(parquet, "ROWS_PER_BATCH", 2)
    doc = document(8)
    for k, a in enumerate(doc["annotations"]):  # kinds that only the whole column tells
        a["attributes"] |= {"late": None if k < 5 else 0.5, "mixed": k if k < 4 else k + 0.5}
    loops = Annotations(lambda: iter(doc["annotations"]), 8)
    parquet.write_parquet(tmp_path / "a.parquet", {**doc, "annotations": loops})
    assert coco.read(tmp_path / "a.parquet") == doc
    found = coco.read_stream(tmp_path / "a.parquet")
    assert (len(found["annotations"]), list(found["annotations"])) == (8, doc["annotations"])
    doc["annotations"][7]["attributes"]["n"] = "a word"
    with pytest.raises(InputError, match="mixes kinds of values"):
        parquet.write_parquet(tmp_path / "b.parquet", doc)
    assert not (tmp_path / "b.parquet").exists()
    doc["annotations"][7]["attributes"] |= {"n": 7, "mixed": 2**60 + 1}  # no number of the column
    with pytest.raises(InputError, match="'mixed' mixes kinds of values"):
        parquet.write_parquet(tmp_path / "b.parquet", doc)


def test_a_table_with_values_that_json_does_not_have_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    parquet.write_parquet(path, document())
    table = pyarrow.parquet.read_table(path)
    at, name = table.num_columns - 1, table.column_names[-1]

    def with_values(one):
        column = pyarrow.array([one] * table.num_rows)
        pyarrow.parquet.write_table(table.set_column(at, name, column), path)
        return coco.read(path)["annotations"][0]["attributes"][name]

    for odd in (b"a", datetime.date(2026, 1, 1), [b"a"], {"a": b"a"}, Decimal(1)):
        with pytest.raises(InputError, match=f"column {name} is of"):
            with_values(odd)
    for good in (None, True, 1.5, "a", [{"a": [1, None]}]):
        assert with_values(good) == good
