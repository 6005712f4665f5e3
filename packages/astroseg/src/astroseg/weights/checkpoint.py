"""Checkpoints: safetensors with Detectron2's parameter names and a header that says all.

The header holds the model's spec, so a file rebuilds its own model, and what the trainer
knew: bands, contrast, engine, versions, hash of the training data. Nothing in a checkpoint
can run code. Loading accounts for every tensor and fails on what it cannot place, unless
that was asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from astroseg.core.errors import InputError, OutputError
from astroseg.core.files import atomic_path
from astroseg.models.spec import ModelSpec, from_dict, structure_differences, to_dict
from astroseg.weights.conversion import Converted, convert, is_pickle, read_converted

SCHEMA = 1
"""Version of the header. Raised when a reader of the old one would misread the new."""

FIRST_CONVOLUTION = "backbone.bottom_up.stem.conv1.weight"
"""With a pyramid; without one there is no ``bottom_up``."""

CLASS_HEADS: tuple[str, ...] = (
    "roi_heads.box_predictor.*",
    "roi_heads.mask_head.predictor.*",
)
"""Patterns of the parameters whose meaning is the classes': to leave out for new classes."""

TARGET_HEADS: tuple[str, ...] = ("roi_heads.target_head.*",)
"""The same for the attributes that are learned."""

_META = "meta."
_DIGEST = "astroseg_sha256"
"""Key of the header's hash of everything else in the file."""


@dataclass(frozen=True)
class Header:
    """What a checkpoint says about itself.

    Attributes
    ----------
    spec : of the model, None in files of other programs.
    engine : that trained it.
    versions : of the libraries.
    meta : the caller's: bands, contrast, hash of the training data and so on.
    origin : what kind of file of another program it was, "" for our own.
    lacks : patterns of names that files of that kind have and models have not, or the
        reverse; they may stay unplaced.
    fields : of the spec, as another program's weights need them.
    """

    spec: ModelSpec | None = None
    engine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""
    lacks: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


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
    origin : what kind of file of another program it was, "" for our own.
    """

    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    mismatched: tuple[str, ...]
    missing: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    origin: str = ""

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
    metadata[_DIGEST] = content_sha256(json.dumps(metadata, sort_keys=True), plain)
    with atomic_path(path) as temporary:
        try:
            save_file(plain, temporary, metadata)
        except SafetensorError as problem:
            raise OutputError(
                f"cannot be written ({problem})",
                file=path,
                remedy="check the folder and free space",
            ) from problem
        _sort_header(temporary)


def content_sha256(header: str, tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of a header's text and of all tensors: names, types, shapes and values."""
    found = hashlib.sha256(header.encode())
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def add_meta(path: str | Path, out: str | Path, meta: Mapping[str, str]) -> None:
    """Write a checkpoint of ours with more in its header, the weights unchanged.

    Parameters
    ----------
    out : the file to write, which may be the same.

    Raises
    ------
    InputError : as `read_checkpoint`.
    OutputError : the file cannot be written.
    """
    tensors, header = read_checkpoint(path)
    write_checkpoint(out, tensors, replace(header, meta={**header.meta, **meta}))


def _sort_header(path: Path) -> None:
    """Bring a safetensors file's header into one order, so that equal content is equal bytes.

    The library writes its keys in an order that changes from call to call. The header is JSON
    of a length that stands before it; sorted it is as long, and the tensors stay in place.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        data = text.encode().ljust(length)
        if len(data) == length:
            file.seek(8)
            file.write(data)


def read_header(path: str | Path) -> Header:
    """The header alone, without reading the tensors of our own files.

    Raises
    ------
    InputError : as `read_checkpoint`.
    """
    path = Path(path)
    if is_pickle(path):
        return _converted_header(read_converted(path))
    with _opened(path) as file:
        metadata = file.metadata() or {}
    return _header(metadata, path) if "schema" in metadata else read_checkpoint(path)[1]


def read_checkpoint(path: str | Path) -> tuple[dict[str, torch.Tensor], Header]:
    """Tensors by Detectron2's names, on the CPU, and what is known about them.

    Reads our own safetensors, and what `astroseg.weights.conversion` reads of other programs.

    Raises
    ------
    InputError : the file is absent, broken, a pickle that could run code, of a header of a
        newer version, changed since it was written, or has weights that are not finite.
    """
    path = Path(path)
    if is_pickle(path):
        found = read_converted(path)
    else:
        with _opened(path) as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        _check_digest(metadata, tensors, path)
        if "schema" in metadata:
            header = _header(metadata, path)
            return _finite(tensors, path), header
        found = convert(tensors, path)
    return _finite(dict(found.tensors), path), _converted_header(found)


def _check_digest(
    metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor], path: Path
) -> None:
    """Hold a file to the hash that it was written with; earlier versions wrote none."""
    if _DIGEST not in metadata:
        return
    rest = {key: value for key, value in metadata.items() if key != _DIGEST}
    if metadata[_DIGEST] != content_sha256(json.dumps(rest, sort_keys=True), tensors):
        raise InputError(
            "was changed since it was written: its SHA-256 is another",
            file=path,
            remedy="copy it again",
        )


def _finite(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """The tensors, or InputError where one has NaN or infinite values: it detects nothing."""
    bad = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise InputError(
            f"has weights that are not finite: {_some(bad)}",
            file=path,
            remedy="give an earlier checkpoint, or train again with a lower --lr",
        )
    return tensors


def _converted_header(found: Converted) -> Header:
    return Header(origin=found.origin, lacks=found.lacks, fields=found.fields)


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
    schema = metadata["schema"]
    if schema not in map(str, range(SCHEMA + 1)):
        raise InputError(
            f"has a header of version {schema[:20]}, newer than {SCHEMA}",
            file=path,
            remedy="upgrade astroseg",
        )
    try:
        architecture = metadata.get("architecture")
        spec = None if architecture is None else from_dict(json.loads(architecture), file=str(path))
        versions = msgspec.json.decode(metadata.get("versions", "{}"), type=dict[str, str])
    except (ValueError, TypeError, RecursionError) as problem:
        raise InputError(
            f"has a broken header ({problem})", file=path, remedy="train or convert it again"
        ) from problem
    # In an order of its own: safetensors gives another at each reading.
    meta = {k.removeprefix(_META): v for k, v in sorted(metadata.items()) if k.startswith(_META)}
    return Header(spec, metadata.get("engine", ""), versions, meta)


def place(
    model: torch.nn.Module,
    spec: ModelSpec,
    tensors: Mapping[str, torch.Tensor],
    header: Header,
    *,
    file: str | Path,
    allow_missing: Sequence[str] = (),
    adapt_channels: bool = False,
    first_convolution: str = "",
) -> LoadReport:
    """Copy a checkpoint's tensors into a model and say where each went.

    Parameters
    ----------
    spec : of the model.
    allow_missing : patterns (as of a shell) of the names that may stay unplaced.
    adapt_channels : whether the first convolution may be spread over the model's channels.
    first_convolution : name of its weights, where the spec does not say it.

    Raises
    ------
    InputError : another architecture, other classes, or a tensor that was not placed and
        not allowed to be. The model is then unchanged.
    """
    fresh = _check_spec(spec, header, file, allow_missing)
    state = model.state_dict()
    tensors = _with_full_names(tensors, state)
    new: dict[str, torch.Tensor] = {}
    mismatched, adapted = [], []
    first = first_convolution or spec.first_convolution
    for name in sorted(state.keys() & tensors.keys()):
        stored = tensors[name]
        if matches(name, fresh):
            mismatched.append(name)
        elif stored.shape == state[name].shape:
            new[name] = stored
        elif adapt_channels and name == first and _spreads(stored, state[name]):
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
        origin=header.origin,
    )
    _check_report(report, state, tensors, file, (*allow_missing, *header.lacks))
    with torch.no_grad():
        for name, value in new.items():
            state[name].copy_(value)
    return report


_BACKBONE = re.compile(r"(?:.*\.)?((?:stem|res\d)\..+)")


def _with_full_names(
    tensors: Mapping[str, torch.Tensor], names: Iterable[str]
) -> Mapping[str, torch.Tensor]:
    """A lone backbone's tensors with the names that the model gives its stem and stages."""
    full = {match[1]: name for name in names if (match := _BACKBONE.fullmatch(name))}
    return {full.get(name, name): value for name, value in tensors.items()}


def _check_spec(
    wanted: ModelSpec, header: Header, file: str | Path, allow_missing: Sequence[str]
) -> tuple[str, ...]:
    """Raise where the stored model is another; patterns of the heads that mean something else."""
    stored = header.spec
    if stored is None:
        for name, value in header.fields.items():
            # The scale of the pixels depends on the contrast too.
            if name != "pixel_std" and getattr(wanted, name) != value:
                raise InputError(
                    f"needs a model with {name} {value}, and this {wanted.name} has "
                    f"{getattr(wanted, name)}",
                    file=file,
                    remedy=f"build the model with {name}={value}",
                )
        return ()
    if differences := structure_differences(stored, wanted):
        raise InputError(
            f"is a {stored.name}, not this {wanted.name}: {'; '.join(differences[:4])}",
            file=file,
            remedy=f"use {_option(stored)} or another checkpoint",
        )
    fresh: tuple[str, ...] = ()
    for what, heads in (("classes", CLASS_HEADS), ("targets", TARGET_HEADS)):
        ours, theirs = getattr(wanted, what), getattr(stored, what)
        if ours == theirs:
            continue
        if not all(pattern in allow_missing for pattern in heads):
            raise InputError(
                f"was trained for the {what} {list(theirs)}, not {list(ours)}",
                file=file,
                remedy=f"use a dataset of these {what}, or ask for new heads",
            )
        fresh += heads
    return fresh


def _option(spec: ModelSpec) -> str:
    """What on the command line asks for a model."""
    return f"--config with its file of {spec.name}" if spec.config else f"--model {spec.name}"


def _check_report(
    report: LoadReport,
    state: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    file: str | Path,
    allowed: Sequence[str],
) -> None:
    problems = []
    for name in report.mismatched:
        if not matches(name, allowed):
            problems.append(
                f"{name} is {tuple(tensors[name].shape)} in the file, "
                f"{tuple(state[name].shape)} in the model"
            )
    if lost := [name for name in report.skipped if not matches(name, allowed)]:
        problems.append(f"the model has no {_some(lost)}")
    if lacking := [name for name in report.missing if not matches(name, allowed)]:
        problems.append(f"the file has no {_some(lacking)}")
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise InputError(
            f"does not fit the model: {'; '.join(problems[:4])}{more}",
            file=file,
            remedy="use the model it was trained as, or leave those weights out by name (--skip of "
            "convert)",
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


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of the patterns, as of a shell."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
