"""Exceptions whose message names the file, what is wrong with it and what to do.

Raise `InputError` for anything wrong with what the user gave (files, catalogs,
options) and `OutputError` for anything wrong with where the result should go.
Programming mistakes stay ordinary Python exceptions: they are bugs and deserve
their traceback. The command line turns every `AstrosegError` into one line and
exit code 2.
"""

from __future__ import annotations

from pathlib import Path

LONGEST = 1000
"""Characters of a problem that are shown: a value of a stranger's file may be of any length."""


class AstrosegError(Exception):
    """A problem the user can mend.

    Parameters
    ----------
    problem : what is wrong, in one clause.
    file : the file it is wrong with, if there is one.
    remedy : what to do about it, in one clause.
    """

    def __init__(
        self, problem: str, *, file: str | Path | None = None, remedy: str | None = None
    ) -> None:
        problem = problem.encode("utf-8", "backslashreplace").decode()  # half a character
        self.problem = problem if len(problem) <= LONGEST else f"{problem[:LONGEST]}..."
        self.file = None if file is None else str(file)
        self.remedy = remedy
        text = self.problem if file is None else f"{file}: {self.problem}"
        super().__init__(f"{text}; {remedy}" if remedy else text)

    def __reduce__(self):  # type: ignore[no-untyped-def]
        # Keyword-only arguments are lost by the default pickling, and workers send
        # these across processes.
        return (_rebuild, (type(self), self.problem, self.file, self.remedy))


def _rebuild(
    kind: type[AstrosegError], problem: str, file: str | None, remedy: str | None
) -> AstrosegError:
    return kind(problem, file=file, remedy=remedy)


class InputError(AstrosegError):
    """A file, catalog or option the user gave cannot be used."""


class OutputError(AstrosegError):
    """The place the result should go to cannot be written."""
