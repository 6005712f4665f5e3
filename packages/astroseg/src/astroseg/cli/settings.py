"""Settings as options: one for each leaf of the configuration tree, YAML files, and lists.

The settings stay out of ``--help``, which shows the common ones under short words;
``--help-config`` lists them all.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from astroseg.core.config import BRANCHES, WORDS, Config
from astroseg.core.config.tree import Setting, changed, from_dict, parse, settings_of, to_yaml
from astroseg.core.errors import InputError
from astroseg.core.names import nearest
from astroseg.core.yaml import read_yaml


class Parser(argparse.ArgumentParser):
    """Options of one command; what is wrong with them is an `InputError`."""

    def __init__(self, **given: Any) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **given
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(message, remedy=f"see {self.prog} --help")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options; an unknown one names the nearest known one."""
        if {"--print-config", "--help-config"} & {word.partition("=")[0] for word in words}:
            for action in self._actions:  # these need nothing else
                action.required = False
                if not action.option_strings:
                    action.nargs = "*" if action.nargs == "+" else "?"
        options, unknown = self.parse_known_args(words)
        for word in unknown:
            name = word.partition("=")[0]
            if not word.startswith("-"):
                remedy = f"write lists with commas, as g,r,i, or see {self.prog} --help"
                raise InputError(f"unexpected {word!r}", remedy=remedy)
            known = [k for k in self._option_string_actions if "_" not in k]
            remedy = nearest(name.replace("_", "-"), known)
            raise InputError(f"unknown option {name}", remedy=remedy or f"see {self.prog} --help")
        return options


def add_settings(parser: Parser, command: str, common: Mapping[str, str]) -> None:
    """Add ``--config``, the lists, and one option for each setting that a command reads.

    Parameters
    ----------
    common : help of the short words that ``--help`` shows; the others work, too.
    """
    group = parser.add_argument_group(
        "settings", "Each setting has an option of its own: --data.contrast lupton."
    )
    group.add_argument(
        "--config", action="append", default=[], metavar="FILE",
        help="YAML file of settings, as --print-config writes it; a later file wins, options win "
        "over files",
    )  # fmt: skip
    group.add_argument("--print-config", action="store_true", help="print all settings and stop")
    group.add_argument(
        "--help-config", nargs="?", const="", metavar="WORD",
        help="explain all settings, or those with WORD in their name, and stop",
    )  # fmt: skip
    short: dict[str, list[str]] = {}
    for word, name in WORDS[command].items():
        short.setdefault(name, []).append(word)
    for one in settings_of(Config()):
        if one.name.partition(".")[0] not in BRANCHES[command]:
            continue
        how = _how(one)
        words = short.get(one.name, [])
        shown = next((common[word] for word in words if word in common), None)
        if shown is not None:
            options = [f"--{word}" for word in words]
            group.add_argument(*options, **{**how, "help": shown, "metavar": one.kind})
            words = []
        # An option may be its own short word: --schedule.
        long = {one.option, f"--{one.name}", *(f"--{word}" for word in words)}
        parser.add_argument(*sorted(long), **how)


def _how(one: Setting) -> dict[str, Any]:
    """How argparse takes a setting."""
    how = {"dest": one.name, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    return {**how, "nargs": "?", "const": "true"} if one.kind.startswith("true|false") else how


def settings(options: argparse.Namespace) -> Config:
    """The configuration: ``--config`` files, then single options.

    A ``--config`` file of Detectron2's is the model's: ``--model-config``.

    Raises
    ------
    InputError
        For an unknown name or a value of a wrong type.
    """
    config = Config()
    for path in options.config:
        if path.endswith(".py"):
            config = changed(config, {"model.file": path})
            continue
        values = read_yaml(Path(path))
        if _is_detectron2s(values):
            config = changed(config, {"model.file": path})
        else:
            config = from_dict(Config, values, config, Path(path))
    known = {one.name: one for one in settings_of(config)}
    given = {
        name: parse(known[name], text) if isinstance(text, str) else text
        for name, text in vars(options).items()
        if name in known
    }
    return changed(config, given)


def _is_detectron2s(values: Mapping[Any, Any]) -> bool:
    """Whether a YAML file is a Detectron2 configuration rather than settings of ours."""
    return any(str(key).isupper() or "." in str(key) for key in values) or bool(
        {"dataloader", "optimizer", "lr_multiplier"} & set(values)
    )


def asked(options: argparse.Namespace, command: str) -> str | None:
    """What ``--print-config`` or ``--help-config`` prints; None where neither is given."""
    if getattr(options, "help_config", None) is not None:
        return _explained(options.help_config, command)
    return to_yaml(settings(options)) if getattr(options, "print_config", False) else None


def _explained(word: str, command: str) -> str:
    """Options, kinds, defaults and help of the settings with a word in their name."""
    every = [
        one for one in settings_of(Config()) if one.name.partition(".")[0] in BRANCHES[command]
    ]
    shown = [one for one in every if word.replace("-", "_") in one.name]
    if not shown:
        remedy = nearest(word, [one.name for one in every]) or "leave out the word to see all"
        raise InputError(f"no setting has {word!r} in its name", remedy=remedy)
    lines = []
    for one in shown:
        value = ",".join(map(str, one.default)) if isinstance(one.default, tuple) else one.default
        lines.append(f"{one.option} {one.kind}  (default {'none' if value == '' else value})")
        lines += textwrap.wrap(one.help, 92, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)
