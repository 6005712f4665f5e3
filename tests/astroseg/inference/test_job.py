"""What a checkpoint says of itself is checked before a model is made of it."""

import json
from pathlib import Path

import pytest

import astroseg.weights
from astroseg.core.errors import InputError
from astroseg.inference.job import trained
from astroseg.inference.model import Model
from astroseg.models.spec import from_dict, model_spec, to_dict
from astroseg.weights.checkpoint import Header

SOUND = Path(astroseg.weights.__file__).with_name("sky.safetensors")
SPEC = model_spec("tiny", channels=3, classes=("galaxy", "star"))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (key, text)
        for key in ("category_ids", "image_side", "config", "bands")
        for text in ("null", "{", "9" * 5000, '"x"', "[[]]", "[" * 100_000, "-1")
    ],
)
def test_a_header_of_other_types_is_one_line(key, text):
    with pytest.raises(InputError, match=r"a\.st: has a header without what prediction") as caught:
        trained(Header(meta={key: text}), SPEC, Path("a.st"))
    assert len(str(caught.value).splitlines()) == 1


def test_ids_must_be_of_the_classes():
    assert trained(Header(meta={"category_ids": "[3, 7]"}), SPEC, Path()).category_ids == [3, 7]
    with pytest.raises(InputError, match="1 category_ids, 2 classes"):
        trained(Header(meta={"category_ids": "[3]"}), SPEC, Path())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("norm_groups", None),
        ("norm_groups", -1),
        ("norm_groups", "x"),
        ("groups", [[]]),
        ("box_head_layers", 10**9),
        ("box_head_layers", 1e308),
        ("blocks", [3, 4, 10**6, 3]),
        ("backbone", "vgg"),
        ("anchor_sizes", 5),
    ],
)
def test_a_description_that_makes_no_model_is_one_line(field, value):
    with pytest.raises(InputError, match=field) as caught:
        from_dict({**json.loads(json.dumps(to_dict(SPEC))), field: value}, file="a.st")
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_that_cannot_be_built_is_one_line(tmp_path):
    data = SOUND.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    description = json.loads(header["__metadata__"]["architecture"])
    header["__metadata__"]["architecture"] = json.dumps({**description, "norm_groups": 7})
    text = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    with pytest.raises(InputError, match=r"a\.safetensors: describes a model that cannot be built"):
        Model(path)
