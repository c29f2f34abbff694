"""A side of a measurement as a process: it loads once, then does one thing at a time when asked to.

Messages go over pipes (`messages.py`). A worker that is not asked anything is stopped (SIGSTOP), so that no
engine's waiting threads spin while another is measured. Knows no engine.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from pam_edge.benchmarks.harness.messages import Answer, Request, answer_line, read_reply, union_of
from pam_edge.core.errors import EnvironmentProblem, PamEdgeError

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


class Worker:
    """A running worker. Close it, or use it as a context manager."""

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, lost: type[PamEdgeError] = EnvironmentProblem
    ) -> None:
        """Start `command`; what it prints goes to `log`. Where it goes away or hangs, `lost` is raised.

        Raises EnvironmentProblem where it cannot start.
        """
        self.name, self._log, self._lost = name, log, lost
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("wb") as words:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words
                )
        except OSError as e:
            raise EnvironmentProblem(f"{name} cannot be started: {e}") from e
        self._stopped = False

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, request: Request[Answer], *, seconds: float = 1800) -> Answer:
        """Have one thing done; the answer. Raises what it failed with, or `lost` where the worker ends or
        takes longer than `seconds`.
        """
        self._signal(signal.SIGCONT)
        try:
            stdin = self._pipe(self._process.stdin)
            stdin.write(msgspec.json.encode(request) + b"\n")
            stdin.flush()
            line = self._line(seconds)
        except OSError as e:
            raise self._failed(str(e)) from e
        try:
            return read_reply(line, request)
        except PamEdgeError as e:
            raise self._failed(str(e), type(e)) from e

    def rest(self) -> None:
        """Stop until the next question."""
        self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """End the process."""
        self._signal(signal.SIGCONT)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # a question that nobody reads any more
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self, seconds: float) -> bytes:
        stdout, ends, held = self._pipe(self._process.stdout), time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not held.endswith(b"\n"):
                if not selector.select(max(0.0, ends - time.monotonic())):
                    self._process.kill()
                    raise self._failed(f"no answer within {seconds:.0f} s")
                block = os.read(stdout.fileno(), 1 << 16)
                if not block:
                    code = self._process.wait()
                    raise self._failed(f"ended with {code}")
                held += block
        return held

    def _pipe(self, pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None  # asked for in __init__
        return pipe

    def _failed(self, why: str, kind: type[PamEdgeError] | None = None) -> PamEdgeError:
        try:
            said = self._log.read_text(errors="replace").strip()[-400:]
        except OSError:
            said = ""
        kind = kind or self._lost
        return kind(f"{self.name}: {why}" + (f"; its last words: {said}" if said else ""))

    def _signal(self, kind: signal.Signals) -> None:
        stop = kind == signal.SIGSTOP
        if self._stopped != stop and self._process.poll() is None:
            self._process.send_signal(kind)
            self._stopped = stop


def serve(handlers: Mapping[type[Request[Any]], Callable[[Any], Any]]) -> None:
    """A worker's main loop: answer requests, each by the handler of its class, until stdin ends."""
    if sys.platform == "linux":  # a stopped worker would outlive a parent that was killed
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not pass for an answer
    requests = union_of(handlers)
    for line in sys.stdin.buffer:
        answers.write(answer_line(line, requests, handlers))
        answers.flush()
