"""The section of the paper's claims: verdicts as a table. Knows rows, draws no chart."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pam_edge.benchmarks.claims import verdict
from pam_edge.benchmarks.claims.published import PART, READING, SOURCE, TASKS
from pam_edge.benchmarks.rows import Row

TITLE = "The paper's claims"


def section(rows: Sequence[Row]) -> str:
    """HTML of the section; without any row of a claim it says that none was measured."""
    if not any(row.part == PART for row in rows):
        none = "no system that the paper compares PAM with was run beside it (pam-edge bench claims)"
        return f"<section id=claims><h2>{TITLE}</h2><p class=none>Not measured: {none}.</p></section>"
    about = (
        "How many times less PAM takes than other systems, rebuilt in their shapes with random weights on "
        "the same "
        f"engine, beside what is published ({SOURCE}, read off, +-{READING:.0%})."
    )
    found = verdict.findings(rows)
    body = [_table(verdict.HEAD, [verdict.line(one) for one in found])]
    words = dict.fromkeys(one.verdict for one in found)
    body.append("<ul>" + "".join(f"<li>{w}: {escape(verdict.MEANING[w])}." for w in words) + "</ul>")
    for task in TASKS:
        if lines := verdict.stages(rows, task):
            body.append(f"<h3>Where the time goes: {task}</h3>{_table(verdict.STAGES, lines)}")
    if lines := verdict.aside(rows):
        body.append(f"<h3>Beside the figure</h3>{_table(verdict.ASIDE, lines)}")
    body.append(f"<h3>What only a device can settle</h3><p>{escape(verdict.DEVICE)}</p>")
    return f"<section id=claims><h2>{TITLE}</h2><p class=about>{escape(about)}</p>{''.join(body)}</section>"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    names = "".join(f"<th class=w>{escape(name)}" for name in head)
    cells = "".join(f"<tr>{''.join(f'<td class=w>{escape(cell)}' for cell in one)}" for one in lines)
    return f"<div class=scroll><table><thead><tr>{names}</thead><tbody>{cells}</tbody></table></div>"
