"""Workloads: files that say what is measured, so that rows of different people are of the same work.

`benchmarks/workloads/NAME-VERSION.json` are part of the package. A workload that was published is never
changed; another one gets another version. Rows carry its name, version and the sha256 of its file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pam_edge.benchmarks.harness.rows import WorkloadId
from pam_edge.benchmarks.speed.plan import Axes
from pam_edge.benchmarks.speed.tasks import Task, Work
from pam_edge.core.errors import UsageError

FOLDER = Path(__file__).resolve().parents[1] / "workloads"
Amounts = Annotated[tuple[Annotated[int, Meta(ge=1, le=1_000_000)], ...], Meta(min_length=1)]
Sizes = Annotated[tuple[Annotated[int, Meta(ge=0, le=1_000_000)], ...], Meta(min_length=1)]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A task and how much of it, as lists: every combination is measured. All that the task reads is given
    (`Work.settings`), and nothing else.
    """

    task: Task
    clicks: Amounts | None = None
    prompt: Amounts | None = None
    frames: Amounts | None = None
    objects: Amounts | None = None
    size: Sizes | None = None
    tokens: Amounts | None = None

    def axes(self, threads: tuple[int, ...]) -> Axes:
        """The same as a grid is made of."""
        return Axes(threads=threads, **self._given())

    def __post_init__(self) -> None:
        given, read = self._given().keys(), Work().settings(self.task).keys()
        if given != read:
            raise ValueError(f"task {self.task} takes {', '.join(read)}, not {', '.join(given) or 'nothing'}")

    def _given(self) -> dict[str, tuple[int, ...]]:
        names = (name for name in self.__struct_fields__ if name != "task")
        return {name: values for name in names if (values := getattr(self, name)) is not None}


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a file says."""

    schema: Literal[1]
    name: Annotated[str, Meta(pattern=r"^[a-z0-9-]+$")]
    version: Annotated[str, Meta(pattern=r"^[0-9]+\.[0-9]+$")]
    about: str  # what it is for
    repeat: Annotated[int, Meta(ge=1)]
    warmup: Annotated[int, Meta(ge=0)]
    parts: Annotated[tuple[Part, ...], Meta(min_length=1)]


def read_workload(text: str) -> tuple[Workload, WorkloadId]:
    """A packaged workload by name, or one of a file. Raises UsageError for an unknown name or a bad file."""
    known = sorted(path.stem for path in FOLDER.glob("*.json"))
    path = FOLDER / f"{text}.json" if text in known else Path(text)
    try:
        content = path.read_bytes()
    except OSError as e:
        names = ", ".join(known)
        raise UsageError(f"--workload {text!r} is neither a file nor one of: {names} ({e.strerror})") from e
    try:
        found: Workload = msgspec.json.decode(content, type=Workload)
    except msgspec.DecodeError as e:
        raise UsageError(f"{path} is no workload: {e}") from e
    return found, WorkloadId(
        name=found.name, version=found.version, sha256=hashlib.sha256(content).hexdigest()
    )
