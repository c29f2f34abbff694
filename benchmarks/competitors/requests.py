"""What the sides of all parts are asked. Knows no engine: peers import it in their environments."""

from __future__ import annotations

from typing import Literal

import msgspec

from pam_edge.benchmarks.harness.messages import Iteration, Request, Versions

Flow = Literal["once", "apart", "reference"]  # one prefix for all tasks; a call a task; PyTorch's


class Load(Request[Versions], frozen=True, tag="load"):
    """Open what is measured: the language decoder, the image encoder, or all that answers need."""

    what: Literal["decoder", "encoder", "answers"]


class Decode(Request[Iteration], frozen=True, tag="decode"):
    """A prompt of token ids into an empty cache, then greedy tokens: measures `prefill` and `decode`."""

    tokens: tuple[int, ...]
    steps: int


class Encode(Request[Iteration], frozen=True, tag="encode"):
    """The image encoder on one prepared picture: measure `encode`."""


class Answered(Iteration):
    """An iteration of `Answer`, and the token ids of each task's answer."""

    said: list[list[int]] = msgspec.field(default_factory=list)


class Answer(Request[Answered], frozen=True, tag="answer"):
    """One click and the answers of all tasks: measure `total`."""

    flow: Flow
    tasks: tuple[str, ...]
    tokens: int  # of each answer


class Clicks(Request[Iteration], frozen=True, tag="clicks"):
    """Clicks on one picture, each with one answer, the last made twice. Figures are the cache's counters."""

    clicks: int
    tokens: int  # of each answer
