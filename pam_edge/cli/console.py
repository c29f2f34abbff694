"""Terminal output: notes and progress on stderr, answers on stdout as they are decoded.

A progress bar is drawn on terminals only; elsewhere one line is printed per finished graph. Knows no model
and no files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from pam_edge.cli.exits import to_stdout
from pam_edge.pipeline.results import Piece
from pam_edge.render.tables import clean_lines

_BAR = 24


def note(text: str) -> None:
    """A line on stderr; it may quote files, so no control character gets through."""
    print(clean_lines(text), file=sys.stderr, flush=True)  # noqa: T201


def show(text: str, end: str = "\n") -> None:
    """Data on stdout, at once. Raises WontFitError where that is a file on a full disk."""
    with to_stdout():
        print(text, end=end, flush=True)  # noqa: T201


def show_json(document: Any) -> None:
    """One JSON document on stdout, in ASCII where stdout is not Unicode."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    show(json.dumps(document, ensure_ascii=not unicode, allow_nan=False))


class Progress:
    """One bar or line a step. Call it with a step's name and the part done, None for "done before"."""

    def __init__(self, steps: Sequence[str], *, stream: TextIO | None = None) -> None:
        self._steps = list(steps)
        self._stream = stream or sys.stderr
        self._moving = self._stream.isatty()
        self._shown = ""
        self._running: str | None = None

    def begin(self, name: str | None) -> None:
        """Start a step, which ends the one before; None only ends."""
        if self._running is not None:
            self(self._running, 1.0)
        self._running = name
        if name is not None:
            self(name, 0.0)

    def __call__(self, name: str, part: float | None) -> None:
        place = f"{self._steps.index(name) + 1}/{len(self._steps)}" if name in self._steps else "-"
        label = f"[{place}] {name:<14}"
        if part is None:
            self._line(f"{label} kept from before")
        elif part >= 1:
            self._line(f"{label} done")
        elif self._moving:
            filled = int(part * _BAR)
            line = f"{label} {'#' * filled}{'.' * (_BAR - filled)} {part:4.0%}"
            if line != self._shown:
                self._stream.write(f"\r{line}")
                self._stream.flush()
                self._shown = line

    def _line(self, text: str) -> None:
        cover = "\r" if self._shown else ""
        self._stream.write(f"{cover}{text.ljust(len(self._shown))}\n")
        self._stream.flush()
        self._shown = ""


class Answers:
    """Answers that are decoded side by side, told one after the other: the first unfinished one streams, the
    others wait for their turn. Each starts with its task's name.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self._tasks = list(tasks)
        self._waiting = ["" for _ in tasks]
        self._finished = [False for _ in tasks]
        self._turn = 0
        self._begun = False

    def push(self, piece: Piece) -> None:
        """Take a piece of any task; show what may be shown."""
        self._waiting[piece.index] += piece.text
        self._finished[piece.index] = piece.answer is not None
        while self._turn < len(self._tasks):
            if not self._begun:
                show(f"{self._tasks[self._turn]}: ", end="")
                self._begun = True
            text, self._waiting[self._turn] = self._waiting[self._turn], ""
            show(clean_lines(text), end="")
            if not self._finished[self._turn]:
                return
            show("")
            self._turn, self._begun = self._turn + 1, False
