import json
from pathlib import Path

import pytest
from eval_helpers import scene

from astroseg.core.config import configured
from astroseg.core.errors import InputError
from astroseg.evaluation.evaluate import evaluate
from astroseg.evaluation.summary import beside, summarise

CONFIG = configured("evaluate", resamples=20, report=False)


def test_two_models_are_printed_side_by_side(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("good", "poor")]
    found = []
    for folder, missed in zip(folders, (0.0, 0.6), strict=True):
        folder.mkdir()
        paths = scene(seed=3, missed=missed, false=0.0, duplicates=0.0).save(folder)
        found.append(evaluate(*paths, folder, CONFIG))
    text = beside(found[0], folders[1] / "metrics.json")
    rows = {line.rsplit(maxsplit=2)[0]: line.rsplit(maxsplit=2)[1:] for line in text.splitlines()}
    assert "this  poor" in text
    assert rows["completeness"] == [f"{m.detection.completeness.value:.3f}" for m in found]
    assert float(rows["mask AP50"][0]) > float(rows["mask AP50"][1]) + 0.2
    assert "completeness" in summarise(found[0])


def test_another_file_is_refused(tmp_path: Path) -> None:
    metrics = evaluate(*scene(seed=3).save(tmp_path), tmp_path, CONFIG)
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"schema": 0}))
    with pytest.raises(InputError, match=r"other\.json: not a metrics\.json"):
        beside(metrics, other)
