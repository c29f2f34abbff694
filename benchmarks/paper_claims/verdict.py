"""Which claims hold here: computed from rows alone, so that nobody writes a verdict by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.harness.table import quantity, table
from pam_edge.benchmarks.paper_claims.published import (
    PART,
    READING,
    SOURCE,
    TASKS,
    VARIANT,
    Claim,
    Quantity,
    claims,
)

MEASURES: dict[Quantity, str] = {"time": "total", "memory": "peak memory"}
Verdict = Literal["holds", "less than published", "does not hold", "undecided", "not measured"]
MEANING: dict[Verdict, str] = {
    "holds": "every round gives at least the published ratio, less 2 % for reading the figure",
    "less than published": "PAM takes less in every round, but by less than published",
    "does not hold": "PAM takes more in every round, more than what is published",
    "undecided": "rounds differ about which side takes less",
    "not measured": "no rounds of both sides are in these rows",
}
DEVICE = (
    "The figure was made on a GPU of unknown kind, with 16-bit weights and answers of unknown length. A GPU "
    "multiplies far faster than it reads memory: a prompt costs it little, a token that is said costs it all "
    "weights once. Processor cores multiply slowly: there a long prompt costs much (where the time goes). "
    "Whether a ratio holds on a GPU, a Jetson or a phone can only be measured there."
)


@dataclass(frozen=True)
class Finding:
    """A claim, and what these rows say of it."""

    claim: Claim
    row: Row | None  # ours against the other side, the last one measured
    verdict: Verdict
    why: str = ""  # it was not measured


def findings(rows: Sequence[Row]) -> list[Finding]:
    """Every published ratio in its order, measured or not."""
    ours = [row for row in rows if row.part == PART]
    found = []
    for claim in claims():
        measure = MEASURES[claim.quantity]
        of_task = [row for row in ours if row.settings.get("task") == claim.task]
        held = [
            row
            for row in of_task
            if row.measure == measure
            and row.against is not None
            and (row.against.side, row.variant) == (claim.system, VARIANT)
        ]
        # Of PAM-3B alone: what another variant gives is no such claim and stands beside.
        why = next((r.error for r in reversed(of_task) if r.side == claim.system and r.error), "")
        row = held[-1] if held else None
        found.append(Finding(claim, row, judged(claim, row), why if row is None else ""))
    return found


def judged(claim: Claim, row: Row | None) -> Verdict:
    """The verdict over one claim, from the rounds of one row."""
    if row is None or row.against is None:
        return "not measured"
    low, high = row.against.low, row.against.high
    least = claim.factor * (1 - READING)
    if low >= least:
        return "holds"
    if low > 1:
        return "less than published"
    if high < min(1.0, least):
        return "does not hold"
    return "undecided"


def to_text(rows: Sequence[Row]) -> str:
    """The verdicts as markdown: table, what the words mean, stages, what only a device can settle."""
    found = findings(rows)
    parts = [
        "## The paper's claims, here\n",
        table(HEAD, [line(one) for one in found]),
        f"How many times less PAM takes; published ratios are read off {SOURCE}, +-{READING:.0%}.\n",
        *(f"- {word}: {MEANING[word]}." for word in dict.fromkeys(one.verdict for one in found)),
        "",
    ]
    for task in TASKS:
        if lines := stages(rows, task):
            parts += [f"### Where the time goes: {task}\n", table(STAGES, lines)]
    if lines := aside(rows):
        parts += ["### Beside the figure\n", table(ASIDE, lines)]
    return "\n".join([*parts, "### What only a device can settle\n", DEVICE, ""])


HEAD = ("task", "of", "PAM against", "published", "here", "rounds", "verdict")
STAGES = ("side", "vision", "reads", "says", "total", "others used")
ASIDE = ("task", "of", "PAM against", "here", "rounds")


def line(one: Finding) -> tuple[str, ...]:
    """A finding's cells under HEAD."""
    claim = one.claim
    name = (claim.task, claim.quantity, claim.system, f"{claim.factor:.2f} x")
    if one.row is None or one.row.against is None:
        return (*name, "not measured", "", one.why or MEANING["not measured"])
    told = one.row.against
    within = f"{told.low:.2f} to {told.high:.2f}, n {len(told.samples)}"
    return (*name, f"{told.factor:.2f} x", within, one.verdict)


def stages(rows: Sequence[Row], task: str) -> list[tuple[str, ...]]:
    """Cells under STAGES: medians of every side that has them, in order."""
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row.part == PART and row.settings.get("task") == task and row.against is None and row.stats:
            found.setdefault(f"{row.side} {row.scheme}", {})[row.measure] = row
    lines = []
    for side, held in found.items():
        if "total" not in held:
            continue
        load = held["total"].load
        others = "unknown" if load is None else f"{load.others_mean:.1%}{'' if load.idle else ' BUSY'}"
        cells = (_median(held.get(name)) for name in ("vision", "prefill", "decode", "total"))
        lines.append((side, *cells, others))
    return lines


def aside(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Cells under ASIDE: ratios that the figure has nothing of, the last of each."""
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for row in rows:
        if row.part != PART or row.against is None or row.against.goal is not None:
            continue
        told = row.against
        name = (row.settings.get("task", ""), row.measure, told.side)
        within = f"{told.low:.2f} to {told.high:.2f}, n {len(told.samples)}"
        found[name] = (*name, f"{told.factor:.2f} x", within)
    return list(found.values())


def _median(row: Row | None) -> str:
    return "" if row is None or row.stats is None else quantity(row.stats.median, row.unit)
