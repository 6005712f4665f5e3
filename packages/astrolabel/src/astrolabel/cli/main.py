"""The command line: arguments to config, config to pipeline, errors to one line.

Exit codes: 0 done; 2 something the user can mend (bad input, unwritable output, a tile
that failed); 130 stopped from the keyboard.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from astrolabel.cli.arguments import COMMANDS, OLD_COMMANDS
from astrolabel.cli.examples import EXAMPLES
from astrolabel.cli.logs import logging_to
from astrolabel.cli.settings import Parser, asked
from astrolabel.core.errors import AstrolabelError, InputError
from astrolabel.core.names import nearest
from astrolabel.core.version import __version__


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if words is None else words)
    try:
        name, rest = _command(given)
        if name is None:
            return 0
        options = parser(name).parse(rest)
        text = asked(options)
        if text is not None:
            print(text)
            return 0
        # Libraries' warnings are no words for users; workers read the environment.
        warnings.simplefilter("ignore")
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
        with logging_to(options.log, options.verbose):
            return _run(options, given)
    except AstrolabelError as error:
        print(f"astrolabel: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nastrolabel: stopped; rerun the command to resume", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `astrolabel ... | head`
        sys.stderr.close()
        return 0


def _run(options: argparse.Namespace, words: list[str]) -> int:
    """The command; what it was and how it ended goes to the log."""
    log = logging.getLogger("astrolabel")
    log.info("astrolabel %s: %s", __version__, shlex.join(words))
    try:
        code: int = options.run(options)
    except AstrolabelError as error:
        log.error("%s", error)
        raise
    except BaseException as error:
        log.error("ended by %r", error, exc_info=not isinstance(error, KeyboardInterrupt))
        raise
    log.info("ended with exit code %d", code)
    return code


def parser(name: str) -> Parser:
    """The options of one command."""
    help_, add = COMMANDS[name]
    made = Parser(
        prog=f"astrolabel {name}",
        description=help_[0].upper() + help_[1:] + ".",
        epilog=EXAMPLES[name],
    )
    add(made)
    group = made.add_argument_group("messages")
    group.add_argument("--verbose", action="store_true", help="say more on the terminal")
    group.add_argument("--log", type=Path, metavar="FILE", help="write messages to a file too")
    return made


def _command(words: list[str]) -> tuple[str | None, list[str]]:
    """The command that the words name, and the words after it; None where help was printed."""
    for n in (2, 1):
        name = " ".join(words[:n])
        name = OLD_COMMANDS.get(name, name)
        if len(words) >= n and name in COMMANDS:
            return name, words[n:]
    first = words[0] if words else "--help"
    if first in ("-V", "--version"):
        print(f"astrolabel {__version__}")
        return None, []
    group = {name: COMMANDS[name] for name in COMMANDS if name.startswith(f"{first} ")}
    if first in ("-h", "--help") or (group and set(words[1:]) <= {"-h", "--help"}):
        print(_overview(group or COMMANDS))
        return None, []
    word = " ".join(words[:2]) if group else first
    known = [*COMMANDS, *{name.partition(" ")[0] for name in COMMANDS}]
    raise InputError(
        f"unknown command {word!r}", remedy=nearest(word, known) or "see astrolabel --help"
    )


def _overview(commands: Mapping[str, tuple[str, object]]) -> str:
    """The commands with what each does."""
    made = argparse.ArgumentParser(
        prog="astrolabel",
        usage="astrolabel COMMAND ...",
        description="Survey coadds in, COCO instance labels out.",
        epilog="`astrolabel COMMAND --help` explains each command, with examples.",
        add_help=False,
    )
    group = made.add_argument_group("commands")
    for name, (help_, _) in commands.items():
        group.add_argument(name, help=help_)
    return made.format_help()
