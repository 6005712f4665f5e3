"""Number counts of documents that others made."""

import json

import pytest

from astrolabel.core.errors import InputError
from astrolabel.datasets.counts import count_labels


def written(path, *annotations):
    doc = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "galaxy"}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 1, "iscrowd": 0, **a}
            for n, a in enumerate(annotations, start=1)
        ],
    }
    path.write_text(json.dumps(doc))
    return path


def test_a_label_of_a_class_that_is_not_there_is_told(tmp_path):
    path = written(tmp_path / "a.json", {"category_id": 7, "attributes": {"mag_i": 20.0}})
    with pytest.raises(InputError, match="annotation 1 is of category 7, which is not there"):
        count_labels([path], "i", 1.0)


@pytest.mark.parametrize("odd", ["bright", 1e300, [1], {"a": 1}, True, None])
def test_what_is_no_magnitude_is_counted_as_unknown(tmp_path, odd):
    path = written(
        tmp_path / "a.json", {"attributes": {"mag_i": 20.3}}, {"attributes": {"mag_i": odd}}
    )
    table = count_labels([path], "i", 1.0)
    assert [list(row) for row in table] == [["20-21", 1], ["unknown", 1]]


def test_labels_that_do_not_say_whether_they_are_ignored_count(tmp_path):
    path = written(tmp_path / "a.json", {"attributes": {"mag_i": 20.3}})
    path.write_text(path.read_text().replace('"iscrowd": 0, ', ""))
    assert list(count_labels([path], "i", 1.0)[0]) == ["20-21", 1]
