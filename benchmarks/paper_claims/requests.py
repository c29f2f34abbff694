"""What the sides are asked."""

from __future__ import annotations

from pam_edge.benchmarks.harness.messages import Iteration, Request, Versions
from pam_edge.benchmarks.paper_claims.published import Task


class Load(Request[Versions], frozen=True, tag="load"):
    """Open what a task needs."""

    task: Task


class Iterate(Request[Iteration], frozen=True, tag="iterate"):
    """One item from its pictures to the last token; measures are those of `side.py`."""

    tokens: int  # of the answer
