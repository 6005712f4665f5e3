"""Users' configuration files, trained and applied by the real Detectron2."""

import json
import shutil

import numpy as np
import pytest
from detectron2_config_files import BASE, NEEDS_TIMM, write_files
from train_helpers import write_sky_set

from astroseg.cli.main import main
from astroseg.core.errors import InputError
from astroseg.engines import get_engine
from astroseg.engines.detectron2.file import read_config
from astroseg.engines.detectron2.keep import keep
from astroseg.engines.detectron2.override import config_spec, frozen_norms
from astroseg.weights.checkpoint import read_header

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # Detectron2's own
CLASSES = ("galaxy", "star")


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path / "configs")


BOTH = pytest.mark.parametrize("name", ["own.yaml", pytest.param("lazy.py", marks=NEEDS_TIMM)])


@BOTH
def test_a_model_of_a_configuration_file_trains_and_predicts_without_it(tmp_path, files, name):
    skies = write_sky_set(tmp_path / "skies", 2, size=96, sources=8)
    run, out = tmp_path / "run", tmp_path / "out"
    train = ["train", str(skies), "--val", str(skies), "--config", str(files / name)]
    train += ["--out", str(run), "--device", "cpu", "--workers", "0", "--quiet", "--batch-size"]
    assert main([*train, "2", "--steps", "2"]) == 0
    assert main([*train, "2", "--steps", "2", "--resume"]) == 0
    header = read_header(run / "last.safetensors")
    assert header.engine == "detectron2"
    assert header.spec.config == read_config(files / name).text
    runs = files / "runs.txt"
    before = runs.read_text() if runs.exists() else None
    kept = files / "kept.txt"
    if before is not None:
        runs.rename(kept)
    predict = ["predict", str(run / "last.safetensors"), str(skies), "--score", "0", "--quiet"]
    # All of them, without a look at masks that show one source.
    every = ["--detections", "30", "--source-iou", "1", "--predict.concentric", "0"]
    assert main([*predict, "--out", str(out), *every]) == 0
    assert len(json.loads((out / "predictions.json").read_text())) == 60
    assert not runs.exists()  # nothing of the user's was run again
    assert main([*predict, "--out", str(tmp_path / "b"), "--engine", "torchvision"]) == 2


@BOTH
def test_what_is_rebuilt_from_a_checkpoint_predicts_the_same(tmp_path, files, name):
    engine = get_engine("detectron2")
    text = read_config(files / name).text
    shutil.rmtree(files)
    spec = config_spec(text, "own", channels=5, classes=CLASSES)
    model = engine.build(spec, seed=0)
    engine.save(model, tmp_path / "a.safetensors", {})
    again = engine.build(read_header(tmp_path / "a.safetensors").spec, seed=1)
    assert set(engine.load(again, tmp_path / "a.safetensors").loaded) == set(model.state_dict())
    image = np.random.default_rng(0).normal(100, 60, (5, 150, 70)).astype(np.float32)
    one, other = (engine.predict(m, [image])[0] for m in (model, again))
    assert len(one.scores) > 100  # more than Detectron2 keeps unless told
    assert np.array_equal(one.scores, other.scores)
    assert one.boxes[:, 3].max() > 140  # beyond the square the file pads to


@BOTH
def test_its_weights_go_on_with_other_bands_and_freeze_their_backbone(tmp_path, files, name):
    engine = get_engine("detectron2")
    text = read_config(files / name).text
    three, five = (config_spec(text, "own", channels=c, classes=CLASSES) for c in (3, 5))
    engine.save(engine.build(three, seed=0), tmp_path / "a.safetensors", {})
    model = engine.build(five, seed=1)
    report = engine.load(model, tmp_path / "a.safetensors", adapt_channels=True)
    [first] = report.adapted
    engine.param_groups(model, "heads")
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert first in frozen
    assert frozen == {n for n in dict(model.named_parameters()) if ".bottom_up." in n}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", "not a Detectron2 configuration"),
        ("a.yaml", "epochs: 3", "has no MODEL"),
        ("a.yaml", "- 1", "has no MODEL"),
        ("a.yaml", "MODEL: [", "ParserError"),
        ("a.yaml", "MODEL: {NO_SUCH_KEY: 1}", "NO_SUCH_KEY"),
        ("a.yaml", "MODEL: {DEVICE: !!python/object/apply:eval [1]}", "Python code"),
        ("a.yaml", "_BASE_: base.yaml\nMODEL: {MASK_ON: False}", "no mask head"),
        ("a.yaml", "MODEL: {META_ARCHITECTURE: RetinaNet}", "RetinaNet"),
        ("a.py", "optimizer = 1", "defines no `model`"),
        ("a.py", "model = undefined", "cannot be run.*undefined"),
        ("a.py", "import torch\nfrom detectron2.config import LazyCall as L\n"
         "model = L(torch.load)(f='x')", "its model is a load"),
        ("a.py", "cfg = dict(MODEL=dict(META_ARCHITECTURE='RetinaNet'))", "RetinaNet"),
        ("a.py", "from .network import model\n"
         "[model.roi_heads.pop(k) for k in list(model.roi_heads) if 'mask' in k]", "no mask head"),
        ("a.py", "import torch\nfrom detectron2.config import LazyCall as L\n"
         "model = L(torch.nn.Linear)(in_features=1)", "GeneralizedRCNN"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_why(files, name, text, words):
    (files / name).write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_config(files / name)
    assert str(files / name) in str(caught.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such file"):
        read_config(tmp_path / "none.yaml")


def test_a_failing_file_leaves_pythons_import_alone(files):
    own = __builtins__["__import__"]
    (files / "a.py").write_text("from .network import nothing")
    with pytest.raises(InputError):
        read_config(files / "a.py")
    assert __builtins__["__import__"] is own


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("build_resnet_fpn_backbone", "my_backbone", "my_backbone"),
        ("NAME: StandardROIHeads", "NAME: MyHeads", "MyHeads"),
        ("MASK_ON: True", "MASK_ON: True\n  KEYPOINT_ON: True", "keypoint"),
    ],
)
def test_a_model_that_cannot_be_built_or_trained_says_why(files, old, new, words):
    (files / "a.yaml").write_text(BASE.replace(old, new))
    spec = config_spec(read_config(files / "a.yaml").text, "a", channels=3, classes=CLASSES)
    with pytest.raises(InputError, match=words):
        get_engine("detectron2").build(spec)


def test_frozen_norms_want_weights(tmp_path, files, capsys):
    (files / "a.yaml").write_text(BASE.replace("NORM: BN", "NORM: FrozenBN"))
    assert frozen_norms(read_config(files / "a.yaml").text)
    skies = write_sky_set(tmp_path / "skies", 1, size=64, sources=4)
    config = str(files / "a.yaml")
    assert main(["train", str(skies), "--config", config, "--out", str(tmp_path / "run")]) == 2
    assert "give --weights" in capsys.readouterr().err


def test_a_run_tells_what_it_changes(tmp_path, files, capfd):
    skies = write_sky_set(tmp_path / "skies", 1, size=64, sources=4)
    command = ["train", str(skies), "--config", str(files / "own.yaml"), "--steps", "1"]
    command += ["--device", "cpu", "--workers", "0", "--keep-limits"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    told = "".join(capfd.readouterr())
    assert "MODEL.ROI_HEADS.NUM_CLASSES: 80 -> 2" in told
    assert "DETECTIONS_PER_IMAGE" not in told  # as asked


def test_a_norm_that_fails_on_its_own_is_a_part_like_others():
    def norm(channels):
        raise OSError(channels)

    own = {}
    keep({"norm": norm}, "model", own)
    assert own == {"model.norm": norm}
