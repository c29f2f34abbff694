"""Requests of a worker that tests start."""

from __future__ import annotations

from pam_edge.benchmarks.harness.messages import Request


class Double(Request[int], frozen=True, tag="double"):
    n: int


class Fail(Request[None], frozen=True, tag="fail"):
    why: str
    ours: bool = False  # an error of errors.py


class End(Request[None], frozen=True, tag="end"): ...


class Noise(Request[int], frozen=True, tag="noise"): ...


class Sleep(Request[None], frozen=True, tag="sleep"): ...


class Wrong(Request[int], frozen=True, tag="wrong"):
    """The worker answers this with a text."""


class Unknown(Request[None], frozen=True, tag="unknown"):
    """The worker does not serve this."""
