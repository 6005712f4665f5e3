"""Configuration files with parts of their users' own, in the real Detectron2."""

import json
import shutil

import pytest
from detectron2_config_files import NEEDS_TIMM, write_files
from train_helpers import write_sky_set

from astroseg.cli.main import main
from astroseg.core.errors import InputError
from astroseg.engines import get_engine
from astroseg.engines.detectron2.file import digest, read_config
from astroseg.engines.detectron2.override import config_spec
from astroseg.weights.checkpoint import read_header

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # Detectron2's own
CLASSES = ("galaxy", "star")

OWN_PARTS = """
from pathlib import Path
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone
from .network import model

with (Path(__file__).parent / "own_runs.txt").open("a") as file:
    file.write("run ")


class Plain(Backbone):
    def __init__(self, in_chans, widths, activation):
        super().__init__()
        self.widths, self.activation = widths, activation
        self.layers = torch.nn.ModuleList(
            torch.nn.Conv2d(a, b, 3, stride=4 if i == 0 else 2, padding=1)
            for i, (a, b) in enumerate(zip((in_chans, *widths), widths))
        )

    def forward(self, x):
        found = {}
        for i, layer in enumerate(self.layers):
            found[f"p{i}"] = x = self.activation(layer(x))
        return found

    def output_shape(self):
        return {
            f"p{i}": ShapeSpec(channels=w, stride=4 * 2**i) for i, w in enumerate(self.widths)
        }


model.backbone.bottom_up = dict(
    _target_=Plain, in_chans=3, widths=[8, 8, 16, 16], activation=lambda x: torch.relu(x) + 0.1
)
"""
OWN_CFG = """
from pathlib import Path
from detectron2.config import get_cfg
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead


@ROI_MASK_HEAD_REGISTRY.register()
class HeadOfMine(MaskRCNNConvUpsampleHead):
    def layers(self, x):
        return super().layers(x) * get_scale()


def get_scale():
    return cfg.MODEL.SCALE


cfg = get_cfg()
cfg.merge_from_file(Path(__file__).parent / "own.yaml")
cfg.MODEL.ROI_MASK_HEAD.NAME = "HeadOfMine"
cfg.MODEL.SCALE = 2.0
"""


def command(name, *options):
    return [name, *map(str, options), "--device", "cpu", "--quiet"]


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path / "configs")


@pytest.mark.parametrize("name", [pytest.param("parts.py", marks=NEEDS_TIMM), "cfg.py"])
def test_a_program_of_the_users_own_is_run_on_the_users_word_alone(
    tmp_path, files, name, capsys, fresh_registry
):
    program = files / name
    program.write_text(OWN_PARTS if name == "parts.py" else OWN_CFG)
    skies = write_sky_set(tmp_path / "skies", 2, size=96, sources=8)
    run = tmp_path / "run"
    train = command("train", skies, "--out", run, "--workers", 0, "--batch-size", 2, "--steps", 2)
    assert main([*train, "--config", str(program)]) == 0
    header = read_header(run / "last.safetensors")
    assert header.meta["config_sha256"] == digest(program.read_text())
    assert header.spec.config_program == program.read_text()

    def predict(*options):
        capsys.readouterr()
        given = command("predict", run / "last.safetensors", skies, "--score", 0, *options)
        return main([*given, "--out", str(tmp_path / "out")]), capsys.readouterr().err

    own = digest(program.read_text())
    code, told = predict()
    assert code == 2
    assert f"give --config with that file, sha256 {own}" in told
    moved = tmp_path / "elsewhere" / name
    shutil.copytree(files, moved.parent)
    fresh_registry()
    assert predict("--config", moved)[0] == 0
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())) > 2
    fresh_registry()
    assert main([*train, "--resume", "--config", str(moved)]) == 0  # a file may move
    assert main([*train, "--resume", "--model", "tiny"]) == 2
    assert own in capsys.readouterr().err

    runs = moved.with_name("own_runs.txt")
    before = runs.read_text() if runs.exists() else ""
    moved.write_text(moved.read_text() + "# another\n")
    for code, told in (
        predict("--config", moved),
        (main([*train, "--resume", "--config", str(moved)]), capsys.readouterr().err),
    ):
        assert code == 2
        assert own in told
        assert digest(moved.read_text()) in told
        assert "config_program" in told  # where the file is to be had
    assert (runs.read_text() if runs.exists() else "") == before  # not run before it is known


@pytest.fixture
def fresh_registry():
    """Forget what a program registered: programs are run once in a process."""
    get_engine("detectron2")  # imports it without its warnings
    from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY

    def forget():
        ROI_MASK_HEAD_REGISTRY._obj_map.pop("HeadOfMine", None)

    yield forget
    forget()


@NEEDS_TIMM
def test_the_same_file_that_imports_something_else_is_refused(tmp_path, files):
    (files / "a.py").write_text(
        "from .network import model\nmodel.roi_heads.mask_head.hook = lambda x: x"
    )
    file = read_config(files / "a.py")
    assert list(file.own) == ["model.roi_heads.mask_head.hook"]
    spec = config_spec(file.text, "a", channels=3, classes=CLASSES, program=file.program)
    network = files / "network.py"
    network.write_text(network.read_text().replace("out_channels=16", "out_channels=8"))
    again = read_config(files / "a.py", file.program)
    with pytest.raises(InputError, match="gives another model"):
        get_engine("detectron2", again).build(spec)
