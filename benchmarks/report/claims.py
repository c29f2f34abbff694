"""The section of the paper's claims: verdicts as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.paper_claims import verdict
from pam_edge.benchmarks.paper_claims.published import PART, READING, SOURCE, TASKS


@dataclass(frozen=True)
class Table:
    """A titled table."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Claims:
    """What the section shows; `missing` says why there is nothing to show."""

    title: str = "The paper's claims"
    missing: str = ""
    about: str = ""
    head: Sequence[str] = verdict.HEAD
    lines: Sequence[Sequence[str]] = ()
    meanings: dict[str, str] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    device: str = verdict.DEVICE


def section(rows: Sequence[Row]) -> Claims:
    """The verdicts on the rows of `bench claims`."""
    if not any(row.part == PART for row in rows):
        return Claims(
            missing="no system that the paper compares PAM with was run beside it (pam-edge bench claims)"
        )
    found = verdict.findings(rows)
    tables = [
        Table(f"Where the time goes: {task}", verdict.STAGES, lines)
        for task in TASKS
        if (lines := verdict.stages(rows, task))
    ]
    if lines := verdict.aside(rows):
        tables.append(Table("Beside the figure", verdict.ASIDE, lines))
    return Claims(
        about="How many times less PAM takes than other systems, rebuilt in their shapes with random weights "
        f"on the same engine, beside what is published ({SOURCE}, read off, +-{READING:.0%}).",
        lines=[verdict.line(one) for one in found],
        meanings={word: verdict.MEANING[word] for word in dict.fromkeys(one.verdict for one in found)},
        tables=tables,
    )
