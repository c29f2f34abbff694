"""How a command ends: errors become a message on stderr and an exit code.

If the reader of stdout has closed it, that is no error; if stdout cannot be written, it is treated as a full
disk.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from pam_edge.core.errors import PamEdgeError, WontFitError, cannot_write


class ReaderLeft(Exception):  # noqa: N818 - not an error
    """Whoever read our output has seen enough."""


class Verbs(TyperGroup):
    """The verbs and their help, with `to_stdout` around them: typer itself would end a closed pipe with 1."""

    def make_context(self, *args: Any, **named: Any) -> Any:
        """As typer's; the program's own `--help` and `--version` print here."""
        with to_stdout():
            return super().make_context(*args, **named)

    def invoke(self, *args: Any, **named: Any) -> Any:
        """As typer's; the verb's `--help` prints here."""
        with to_stdout():
            return super().invoke(*args, **named)


@contextmanager
def to_stdout() -> Iterator[None]:
    """Around what writes to stdout. Raises ReaderLeft, or WontFitError where it takes no more."""
    try:
        yield
    except BrokenPipeError as e:
        raise ReaderLeft from e
    except OSError as e:
        ours = cannot_write("the output", e)
        # Not stdout: a file with a name. Not the system's: what has no number.
        if e.filename is None and e.errno is not None and isinstance(ours, WontFitError):
            raise ours from e
        raise


def guarded(command: Callable[[], object], *, debug: bool) -> None:
    """Run a command to its exit code. Whatever escapes it that is not of errors.py is a bug: 1."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character must not cost the answer
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            command()
        finally:
            with to_stdout():
                sys.stdout.flush()
    except ReaderLeft:
        _drop_stdout()
    except PamEdgeError as e:
        _fail(str(e), e.exit_code, debug=debug)
    except KeyboardInterrupt:
        _fail("interrupted", 130, debug=debug)
    except MemoryError:
        _fail("out of memory: close other programs, or use a smaller variant", 7, debug=debug)
    except Exception as e:
        hint = "" if debug else "; `pam-edge --debug ...` shows where"
        _fail(f"a bug in pam-edge: {type(e).__name__}: {e}{hint}", 1, debug=debug)


def _fail(message: str, code: int, *, debug: bool) -> NoReturn:
    from pam_edge.render.tables import clean_lines

    _drop_stdout()
    message = f"pam-edge: {message}"
    if debug:
        import traceback

        message = f"{traceback.format_exc()}{message}"
    with suppress(OSError):  # nowhere to say it: the code remains
        typer.echo(clean_lines(message), err=True)
    sys.exit(code)


def _drop_stdout() -> None:
    """What could not be written is let go, or the interpreter would try again on its way out."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):  # a stdout that is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
