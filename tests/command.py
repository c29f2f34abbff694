"""The real command line, in this process (torch is imported once) or in one of its own."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from pam_edge.cli import app

PROGRAM = "from pam_edge.cli.app import main; main()"


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def clean(self) -> bool:
        """True where it ended as a command should: no traceback, not as a bug."""
        return (
            self.code != 1 and "Traceback" not in self.out + self.err and "a bug in pam-edge" not in self.err
        )


def pam_edge(*words: str | Path) -> Result:
    """`pam-edge WORDS` through its entry point, in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with _argv(["pam-edge", *map(str, words)]), redirect_stdout(out), redirect_stderr(err):
        try:
            app.main()
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else int(e.code is not None)
    return Result(code, out.getvalue(), err.getvalue())


def start(*words: str | Path, program: str = PROGRAM) -> subprocess.Popen[str]:
    """`pam-edge WORDS` in a process of its own; `program` may prepare it first."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], *, timeout: float = 120) -> Result:
    """Wait for a started command."""
    out, err = process.communicate(timeout=timeout)
    return Result(process.returncode, out, err)


def refused(result: Result, code: int, *words: str) -> None:
    """The command ended as it should: that code, a message with these words, no data, no traceback."""
    assert result.code == code, result
    assert result.clean, result
    assert not result.out.strip(), "what fails gives no data"
    message = result.err.strip().splitlines()[-1]
    assert message.startswith("pam-edge: ") or code == 2, message
    for word in words:
        assert word in result.err, (word, result.err)


@contextmanager
def _argv(words: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before
