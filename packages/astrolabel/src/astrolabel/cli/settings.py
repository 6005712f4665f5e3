"""Settings as options: one for each leaf of the configuration tree, a YAML file, and lists.

The settings stay out of ``--help``, which shows the few common ones under short names;
``--help-config`` lists them all.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from astrolabel.core.config import LabelConfig, SimulateConfig, preset
from astrolabel.core.config.tree import Setting, changed, from_dict, parse, settings_of, to_yaml
from astrolabel.core.errors import InputError
from astrolabel.core.names import nearest
from astrolabel.core.yaml import read_yaml

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """Options of one command; what is wrong with them is an `InputError`."""

    def __init__(self, **given: Any) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **given
        )

    def format_help(self) -> str:
        """The help, its first line without the thirty options that follow one by one."""
        needed = [a for a in self._actions if a.required or not a.option_strings]
        shown = [
            f"{(*a.option_strings, '')[0]} {a.metavar or a.dest.upper()}".strip()
            + (" ..." if a.nargs in ("+", "*") else "")
            for a in needed
        ]
        self.usage = " ".join(["%(prog)s", *shown, "[options]"])
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise InputError(message, remedy=f"see {self.prog} --help")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options; an unknown one names the nearest known one."""
        asks = {"--print-config", "--help-config"} & {word.partition("=")[0] for word in words}
        if asks:  # these need nothing else
            for action in self._actions:
                action.required = False
                action.nargs = "*" if action.nargs == "+" else action.nargs
        options, unknown = self.parse_known_args(words)
        for word in unknown:
            if word.startswith("-"):
                name = word.partition("=")[0]
                known = [k for k in self._option_string_actions if "_" not in k]
                remedy = nearest(name.replace("_", "-"), known)
                raise InputError(
                    f"unknown option {name}", remedy=remedy or f"see {self.prog} --help"
                )
        if unknown:
            raise InputError(f"unexpected {' '.join(unknown)!r}", remedy=f"see {self.prog} --help")
        return options


def add_settings(
    parser: argparse.ArgumentParser,
    common: Mapping[str, tuple[str, str]],
    only: tuple[str, ...] = (),
    tree: Any = None,
) -> None:
    """Add ``--config``, the lists, and one option for each setting of a tree.

    Parameters
    ----------
    common : short options and help of the settings that ``--help`` shows, by setting's name.
    only : the branches of the tree to add; all where empty.
    tree : default values; `LabelConfig`'s where absent.
    """
    parser.set_defaults(tree=tree)
    group = parser.add_argument_group(
        "settings", "Each setting has an option of its own: --mask.threshold-sigma 3."
    )
    if not only and tree is None:
        group.add_argument(
            "--preset", choices=("default", "paper"), help="paper: the published recipe as printed"
        )
    group.add_argument(
        "--config", type=Path, action="append", default=[], metavar="FILE",
        help="YAML file of settings, as --print-config writes it; a later file wins",
    )  # fmt: skip
    group.add_argument("--print-config", action="store_true", help="print all settings and stop")
    group.add_argument(
        "--help-config", nargs="?", const="", metavar="WORD",
        help="explain all settings, or those with WORD in their name, and stop",
    )  # fmt: skip
    for one in settings_of(LabelConfig() if tree is None else tree):
        if one.name == "preset" or (only and one.name.partition(".")[0] not in only):
            continue
        how = _how(one)
        words = dict.fromkeys((one.option, f"--{one.name}"))
        short, help_ = common.get(one.name, ("", ""))
        for word in short.split():
            words.pop(word, None)
        if words:
            parser.add_argument(*words, **how)
        if short:
            group.add_argument(*short.split(), **{**how, "help": help_, "metavar": one.kind})


def _how(one: Setting) -> dict[str, Any]:
    """How argparse takes a setting."""
    how = {"dest": one.name, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    return {**how, "nargs": "?", "const": "true"} if one.kind == "true|false" else how


def settings(options: argparse.Namespace) -> LabelConfig:
    """The configuration: a preset, then a manifest's, ``--config`` files, single options.

    Raises
    ------
    InputError
        For an unknown name or a value of a wrong type.
    """
    files = [(path, read_yaml(path)) for path in options.config]
    named = [str(values["preset"]) for _, values in files if "preset" in values]
    name = getattr(options, "preset", None) or (named[-1] if named else None)
    manifest = getattr(options, "manifest", None)
    config = preset(name or "default") if manifest is None else _of_manifest(manifest, name)
    for path, values in files:
        config = from_dict(LabelConfig, {**values, "preset": config.preset}, config, path)
    return _with_options(config, options)


def simulation(options: argparse.Namespace) -> SimulateConfig:
    """What to simulate: the defaults, ``--config`` files, single options.

    Raises
    ------
    InputError
        For an unknown name or a value of a wrong type.
    """
    config: SimulateConfig = options.tree
    for path in options.config:
        config = from_dict(SimulateConfig, read_yaml(path), config, path)
    return _with_options(config, options)


def _with_options(config: T, options: argparse.Namespace) -> T:
    known = {one.name: one for one in settings_of(config)}
    given = {
        name: parse(known[name], text) if isinstance(text, str) else text
        for name, text in vars(options).items()
        if name in known and name != "preset"
    }
    return changed(config, given)


def _of_manifest(path: Path, name: str | None) -> LabelConfig:
    from msgspec.structs import replace

    from astrolabel.datasets.manifest import read_manifest

    manifest = read_manifest(path)
    return (manifest if name is None else replace(manifest, preset=name)).config()


def asked(options: argparse.Namespace) -> str | None:
    """What ``--print-config`` or ``--help-config`` prints; None where neither is given."""
    if getattr(options, "help_config", None) is not None:
        return _explained(options.help_config, options.tree)
    if not getattr(options, "print_config", False):
        return None
    return to_yaml(settings(options) if options.tree is None else simulation(options))


def _explained(word: str, tree: Any) -> str:
    """Options, kinds, defaults and help of the settings with a word in their name."""
    every = [one for one in settings_of(tree or LabelConfig()) if one.name != "preset"]
    shown = [one for one in every if word.replace("-", "_") in one.name]
    if not shown:
        remedy = nearest(word, [one.name for one in every]) or "leave out the word to see all"
        raise InputError(f"no setting has {word!r} in its name", remedy=remedy)
    lines = []
    for one in shown:
        default = ",".join(map(str, one.default)) if isinstance(one.default, tuple) else one.default
        lines.append(f"{one.option} {one.kind}  (default {'none' if default == '' else default})")
        lines += textwrap.wrap(one.help, 92, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)
