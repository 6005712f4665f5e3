"""The command line: arguments to config, config to pipeline, errors to one line.

Exit codes: 0 done; 2 something the user can mend (bad input, unwritable output, a tile
that failed); 130 stopped from the keyboard.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from astrolabel.cli import arguments
from astrolabel.cli.examples import EXAMPLES
from astrolabel.core.errors import AstrolabelError
from astrolabel.core.version import __version__


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(words)
    # Libraries' warnings are no words for users; workers are told by the environment.
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    try:
        code: int = options.run(options)
        return code
    except AstrolabelError as error:
        print(f"astrolabel: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nastrolabel: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="astrolabel",
        description="Survey coadds in, COCO instance labels out.",
        epilog="`astrolabel COMMAND --help` explains each command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"astrolabel {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help_: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=help_,
            description=help_[0].upper() + help_[1:] + ".",
            epilog=EXAMPLES[name],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    for name, help_, add in arguments.COMMANDS:
        add(command(name, help_))
    return parser
