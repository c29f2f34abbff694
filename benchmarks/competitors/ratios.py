"""Our side of a part against every other that was measured beside it. Knows no engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pam_edge.benchmarks.competitors.job import Job, Subject, Who, figure
from pam_edge.benchmarks.competitors.pins import OURS
from pam_edge.benchmarks.harness.rows import Row, against
from pam_edge.benchmarks.harness.turns import Side

Goals = Mapping[tuple[str, str], float]  # the other side and the measure -> how often as fast ours should be


def ratios(
    job: Job,
    about: Subject,
    whos: Mapping[str, Who],
    sides: Sequence[Side],
    *,
    measures: Sequence[str],
    goals: Goals,
) -> list[Row]:
    """A row a side and measure; none where ours failed."""
    by_name = {side.name: side for side in sides if not side.error}
    if OURS not in by_name:
        return []
    ours = by_name[OURS]
    return [
        figure(
            job,
            about,
            whos[OURS],
            measure=measure,
            samples=ours.samples[measure],
            load=ours.load,
            against=against(
                ours.samples[measure], other.samples[measure], side=name, goal=goals.get((name, measure))
            ),
        )
        for name, other in by_name.items()
        if name != OURS
        for measure in measures
    ]
