"""What goes through the pipe between the process that measures and a worker: typed, JSON, a line each.

A request is a struct of its own; its class says what it is answered with. The three packages that measure add
requests of theirs: `speed/requests.py`, `competitors/requests.py`, `paper_claims/requests.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from operator import or_
from typing import Any, Generic, TypeVar, get_args

import msgspec

from pam_edge.core.errors import (
    DeviceError,
    EnvironmentProblem,
    IntegrityError,
    PamEdgeError,
    QualityError,
    UsageError,
    WontFitError,
)

Answer = TypeVar("Answer")
Versions = dict[str, str]  # of what a worker runs, by package
_KINDS: dict[int, type[PamEdgeError]] = {
    kind.exit_code: kind for kind in (UsageError, QualityError, DeviceError, IntegrityError, WontFitError)
}


class Request(
    msgspec.Struct, Generic[Answer], frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="do"
):
    """Base of what a worker is asked to do; its parameter is the type of the answer."""


class Iteration(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What one iteration gave. `samples` are in ns, but for measures that a part knows to be in bytes."""

    samples: dict[str, list[int]] = {}  # by measure
    work: dict[str, float] = {}  # what one sample of a measure does, in tokens or clicks; else 1
    figures: dict[str, dict[str, float]] = {}  # by measure, the unit in the name
    energy: dict[str, int] = {}  # uJ by source
    memory: dict[str, int] = {}  # bytes by kind, the most since the worker began
    gpu: int | None = None  # bytes of its memory
    ticks: tuple[int, int, int] | None = None  # processor time as `machine.Ticks.since` gives it

    def add(self, measure: str, ns: float) -> None:
        """One more sample."""
        self.samples.setdefault(measure, []).append(round(ns))

    def rate(self, measure: str, tokens: float, *, step_bytes: int = 0) -> None:
        """Tokens a second of the last sample, and bytes of weights a second where `step_bytes` are read for
        each token.
        """
        spent = self.samples[measure][-1]
        if not tokens or not spent:
            return
        self.work[measure] = tokens
        figures = {"tokens_per_s": tokens / spent * 1e9}
        if step_bytes:
            figures |= {"gb_per_s": figures["tokens_per_s"] * step_bytes / 1e9, "bytes_per_token": step_bytes}
        self.figures[measure] = figures


class _Reply(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A result, or why there is none."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    code: int = EnvironmentProblem.exit_code  # of the error


def read_reply(line: bytes, request: Request[Answer]) -> Answer:
    """The answer to `request`. Raises what the worker failed with, and EnvironmentProblem for a line that is
    no such answer.
    """
    try:
        reply: _Reply = msgspec.json.decode(line, type=_Reply)
        if reply.error:
            raise _KINDS.get(reply.code, EnvironmentProblem)(reply.error)
        answer: Answer = msgspec.json.decode(reply.result, type=_answer_type(type(request)))
    except msgspec.DecodeError as e:
        raise EnvironmentProblem(f"its answer is none to {type(request).__name__}: {e}") from e
    return answer


def answer_line(
    line: bytes, requests: Any, handlers: Mapping[type[Request[Any]], Callable[[Any], Any]]
) -> bytes:
    """Do what a line asks for; the line that answers it. A failure is an answer too.

    `requests` is the union of the handlers' classes, see `union_of`.
    """
    try:
        request = msgspec.json.decode(line, type=requests)
        reply = _Reply(result=msgspec.Raw(msgspec.json.encode(handlers[type(request)](request))))
    except PamEdgeError as e:
        reply = _Reply(error=str(e)[:1000], code=e.exit_code)
    except msgspec.DecodeError as e:
        reply = _Reply(error=f"a request that is unknown here: {e}; is pam-edge of another version here?")
    except Exception as e:
        reply = _Reply(error=f"{type(e).__name__}: {e}"[:1000])
    return msgspec.json.encode(reply) + b"\n"


def union_of(kinds: Iterable[type[Request[Any]]]) -> Any:
    """One type of all these requests, for decoding."""
    return reduce(or_, kinds)


def _answer_type(kind: type[Request[Answer]]) -> Any:
    (base,) = kind.__orig_bases__  # type: ignore[attr-defined]
    return get_args(base)[0]
