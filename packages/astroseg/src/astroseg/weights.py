"""Checkpoints: safetensors with Detectron2's parameter names and a header that says all.

The header holds the model's spec, so a file rebuilds its own model, and what the trainer
knew: bands, contrast, engine, versions, hash of the training data. Nothing in a checkpoint
can run code. Loading accounts for every tensor and fails on what it cannot place, unless
that was asked for.
"""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from astroseg.errors import InputError, OutputError
from astroseg.models.spec import ModelSpec, from_dict, structure_differences, to_dict

SCHEMA = 1
"""Version of the header. Raised when a reader of the old one would misread the new."""

FIRST_CONVOLUTION = "backbone.bottom_up.stem.conv1.weight"
"""With a pyramid; without one there is no ``bottom_up``."""

CLASS_HEADS: tuple[str, ...] = (
    "roi_heads.box_predictor.*",
    "roi_heads.mask_head.predictor.*",
)
"""Patterns of the parameters whose meaning is the classes': to leave out for new classes."""

_META = "meta."


@dataclass(frozen=True)
class Header:
    """What a checkpoint says about itself.

    Attributes
    ----------
    spec : of the model, None in files of other programs.
    engine : that trained it.
    versions : of the libraries.
    meta : the caller's: bands, contrast, hash of the training data and so on.
    """

    spec: ModelSpec | None = None
    engine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadReport:
    """Where every tensor of a file and of a model went.

    Attributes
    ----------
    loaded : placed unchanged.
    adapted : placed after spreading over another number of channels.
    skipped : in the file, but the model has no such parameter.
    mismatched : in both, but of another shape or of other classes; left as they were.
    missing : in the model, but not in the file; left as they were.
    """

    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    mismatched: tuple[str, ...]
    missing: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        for kind in ("adapted", "skipped", "mismatched", "missing"):
            if names := getattr(self, kind):
                parts.append(f"{len(names)} {kind} ({_some(names)})")
        return ", ".join(parts)


def write_checkpoint(path: str | Path, tensors: Mapping[str, torch.Tensor], header: Header) -> None:
    """Write a safetensors file whole or not at all.

    Raises
    ------
    OutputError : the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    metadata = {
        "format": "pt",
        "schema": str(SCHEMA),
        "engine": header.engine,
        "versions": json.dumps(dict(header.versions), sort_keys=True),
        **{_META + key: str(value) for key, value in header.meta.items()},
    }
    if header.spec is not None:
        metadata["architecture"] = json.dumps(to_dict(header.spec), sort_keys=True)
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(plain, temporary, metadata)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as problem:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"cannot be written ({problem})", file=path, remedy="check the folder and free space"
        ) from problem


def read_header(path: str | Path) -> Header:
    """The header alone, without reading the tensors.

    Raises
    ------
    InputError : not a safetensors file, or a header of a newer version.
    """
    with _opened(Path(path)) as file:
        return _header(file.metadata() or {}, Path(path))


def read_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], Header]:
    """Tensors by name, on the CPU, and the header (empty for files of other programs).

    Raises
    ------
    InputError : the file is absent, broken, or a pickle that could run code.
    """
    path = Path(path)
    if path.suffix != ".safetensors" and _is_pickle(path):
        return _read_pickle(path), Header()
    with _opened(path) as file:
        header = _header(file.metadata() or {}, path)
        return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise InputError("no such checkpoint", file=path, remedy="give a .safetensors file")
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as problem:
        raise InputError(
            f"is not a readable safetensors file ({problem})",
            file=path,
            remedy="give a checkpoint written by astroseg, or copy it again if it was cut short",
        ) from problem


def _header(metadata: Mapping[str, str], path: Path) -> Header:
    schema = metadata.get("schema", "")
    if not schema:
        return Header()
    if not schema.isdigit() or int(schema) > SCHEMA:
        raise InputError(
            f"has a header of version {schema}, newer than {SCHEMA}",
            file=path,
            remedy="upgrade astroseg",
        )
    try:
        architecture = metadata.get("architecture")
        spec = None if architecture is None else from_dict(json.loads(architecture), file=str(path))
        versions = json.loads(metadata.get("versions", "{}"))
    except (json.JSONDecodeError, TypeError) as problem:
        raise InputError(
            f"has a broken header ({problem})", file=path, remedy="train or convert it again"
        ) from problem
    meta = {k.removeprefix(_META): v for k, v in metadata.items() if k.startswith(_META)}
    return Header(spec, metadata.get("engine", ""), versions, meta)


def _is_pickle(path: Path) -> bool:
    """Whether the file is a zip archive or a bare pickle: torch's two formats."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4)
    return start[:1] == b"\x80" or start == b"PK\x03\x04"


def _read_pickle(path: Path) -> dict[str, torch.Tensor]:
    """State dictionary of a torch file, read without running what is in it."""
    try:
        with warnings.catch_warnings():
            # Of pickle protocols torch may not know in full: then it fails, which is enough.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as problem:
        reason = str(problem).splitlines()[0]
        raise InputError(
            f"is refused: reading it could run code, or it is broken ({reason})",
            file=path,
            remedy="convert it to safetensors where you trust it",
        ) from problem
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]  # Detectron2 keeps optimizer and iteration beside it
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        raise InputError(
            "holds something else than tensors by name",
            file=path,
            remedy="give a file of a model's state_dict",
        )
    return dict(content)


def place(
    model: torch.nn.Module,
    spec: ModelSpec,
    tensors: Mapping[str, torch.Tensor],
    header: Header,
    *,
    file: str | Path,
    allow_missing: Sequence[str] = (),
    adapt_channels: bool = False,
) -> LoadReport:
    """Copy a checkpoint's tensors into a model and say where each went.

    Parameters
    ----------
    spec : of the model.
    allow_missing : patterns (as of a shell) of the names that may stay unplaced.
    adapt_channels : whether the first convolution may be spread over the model's channels.

    Raises
    ------
    InputError : another architecture, other classes, or a tensor that was not placed and
        not allowed to be. The model is then unchanged.
    """
    other_classes = _check_spec(spec, header.spec, file, allow_missing)
    state = model.state_dict()
    new: dict[str, torch.Tensor] = {}
    mismatched, adapted = [], []
    for name in sorted(state.keys() & tensors.keys()):
        stored = tensors[name]
        if other_classes and _matches(name, CLASS_HEADS):
            mismatched.append(name)
        elif stored.shape == state[name].shape:
            new[name] = stored
        elif (
            adapt_channels
            and name == spec.bottom_up + "stem.conv1.weight"
            and _spreads(stored, state[name])
        ):
            new[name] = spread_channels(stored, spec.channels)
            adapted.append(name)
        else:
            mismatched.append(name)
    report = LoadReport(
        loaded=tuple(sorted(new.keys() - set(adapted))),
        skipped=tuple(sorted(tensors.keys() - state.keys())),
        mismatched=tuple(mismatched),
        missing=tuple(sorted(state.keys() - tensors.keys())),
        adapted=tuple(adapted),
    )
    _check_report(report, state, tensors, file, allow_missing)
    with torch.no_grad():
        for name, value in new.items():
            state[name].copy_(value)
    return report


def _check_spec(
    wanted: ModelSpec, stored: ModelSpec | None, file: str | Path, allow_missing: Sequence[str]
) -> bool:
    """Raise where the stored model is another; return whether only its classes are."""
    if stored is None:
        return False
    if differences := structure_differences(stored, wanted):
        raise InputError(
            f"is a {stored.name}, not this {wanted.name}: {'; '.join(differences[:4])}",
            file=file,
            remedy=f"use --model {stored.name} or another checkpoint",
        )
    if stored.classes == wanted.classes:
        return False
    if all(pattern in allow_missing for pattern in CLASS_HEADS):
        return True
    raise InputError(
        f"was trained for the classes {list(stored.classes)}, not {list(wanted.classes)}",
        file=file,
        remedy="use a dataset of these classes, or ask for new class heads",
    )


def _check_report(
    report: LoadReport,
    state: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    file: str | Path,
    allowed: Sequence[str],
) -> None:
    problems = []
    for name in report.mismatched:
        if not _matches(name, allowed):
            problems.append(
                f"{name} is {tuple(tensors[name].shape)} in the file, "
                f"{tuple(state[name].shape)} in the model"
            )
    if lost := [name for name in report.skipped if not _matches(name, allowed)]:
        problems.append(f"the model has no {_some(lost)}")
    if lacking := [name for name in report.missing if not _matches(name, allowed)]:
        problems.append(f"the file has no {_some(lacking)}")
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise InputError(
            f"does not fit the model: {'; '.join(problems[:4])}{more}",
            file=file,
            remedy="use the model it was trained as, or allow what may stay at its start",
        )


def _spreads(stored: torch.Tensor, wanted: torch.Tensor) -> bool:
    return (
        stored.ndim == 4
        and stored.shape[0] == wanted.shape[0]
        and (stored.shape[2:] == wanted.shape[2:])
    )


def spread_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """First convolution for another number of channels.

    Every new channel gets the mean of the old ones, scaled so that an image with the same
    value in all channels gives the same response.

    Parameters
    ----------
    weight : (O, C, K, K).

    Returns
    -------
    (O, channels, K, K).
    """
    mean = weight.mean(dim=1, keepdim=True) * (weight.shape[1] / channels)
    return mean.repeat(1, channels, 1, 1)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
