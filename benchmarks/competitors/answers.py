"""Part `answers`: one click and four answers, once with a shared prefix, once as the original makes them.

Part `clicks`: several clicks on one picture, and the cache's counters that say what was computed again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from pam_edge.benchmarks.competitors.bundles import bundle_of, our_side
from pam_edge.benchmarks.competitors.job import Command, Job, measure_sides, side_row, worker_side
from pam_edge.benchmarks.competitors.pins import OURS, PYTORCH
from pam_edge.benchmarks.competitors.ratios import ratios
from pam_edge.benchmarks.competitors.requests import Answer, Answered, Clicks, Flow, Load
from pam_edge.benchmarks.harness.iterations import Side, Started
from pam_edge.benchmarks.harness.row_builder import Subject, Who
from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.harness.scene import TASKS
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.core.errors import QualityError
from pam_edge.verify.error_metrics import first_difference

APART = f"{OURS}, four calls"
GOALS = {(APART, "total"): 4.0, (PYTORCH, "total"): 10.0}
CLICKS = 10
_HERE = "pam_edge.benchmarks.competitors"


def subject(job: Job, variant: str) -> Subject:
    """What is measured."""
    return job.subject("answers", variant, {"tasks": ",".join(TASKS), "tokens": str(job.answer_tokens)})


def click_subject(job: Job, variant: str) -> Subject:
    """What the part `clicks` measures."""
    return job.subject("clicks", variant, {"clicks": str(CLICKS), "tokens": str(job.answer_tokens)})


def measure(job: Job, variant: str, scheme: str) -> list[Row]:
    """Rows of our flow, of the same engine without sharing, of PyTorch, and of the first against the others.

    Iterations of a side that says too little are no samples.
    """
    about = subject(job, variant)
    said: dict[str, list[list[int]]] = {}

    def warm(worker: Worker, flow: Flow) -> None:
        """Opens graphs and warms up with a quarter of the work."""
        worker.ask(Answer(flow=flow, tasks=TASKS[:1], tokens=job.answer_tokens))

    def iterate(worker: Worker, name: str, flow: Flow) -> Answered:
        found = worker.ask(Answer(flow=flow, tasks=TASKS, tokens=job.answer_tokens))
        counts, wanted = [len(answer) for answer in found.said], job.answer_tokens
        if counts != [wanted] * len(TASKS):
            raise QualityError(f"{name} said {counts} tokens; {wanted} each asked for")
        said[name] = found.said
        return found

    def side(name: str, flow: Flow) -> Side:
        return worker_side(
            job,
            Who(name, "fp32" if name == PYTORCH else scheme, name),
            partial(_command, job, name, variant, scheme),
            Load(what="answers"),
            partial(iterate, name=name, flow=flow),
            log="answers",
            warm=partial(warm, flow=flow),
        )

    ours, apart = side(OURS, "once"), side(APART, "apart")
    start_alone = apart.start

    def start_apart(stack: ExitStack) -> Started:
        if ours.started is None:
            return start_alone(stack)
        worker = ours.started.worker  # the same process with the same graphs
        warm(worker, "apart")
        who = our_side(bundle_of(job, variant, scheme), APART)
        return Started(worker, partial(iterate, worker, APART, "apart"), who)

    apart.start = start_apart
    sides = [ours, apart, *([side(PYTORCH, "reference")] if PYTORCH in job.peers else [])]
    measure_sides(job, sides, warmup=0)
    rows = []
    for one in sides:
        figures = {"same_tokens": _same(said.get(OURS, []), said[one.who.side])} if one.samples else {}
        rows.append(side_row(job, about, one, "total", work=len(TASKS), figures=figures))
    return [*rows, *ratios(job, about, sides, measures=("total",), goals=GOALS)]


def measure_clicks(job: Job, variant: str, scheme: str) -> list[Row]:
    """Rows of the first click, of each later one, and of one made again."""
    about = click_subject(job, variant)
    side = worker_side(
        job,
        Who(OURS, scheme, OURS),
        partial(_command, job, OURS, variant, scheme),
        Load(what="decoder"),
        lambda worker: worker.ask(Clicks(clicks=CLICKS, tokens=job.answer_tokens)),
        log="clicks",
        warm=lambda worker: worker.ask(Clicks(clicks=2, tokens=job.answer_tokens)),
    )
    measure_sides(job, [side], warmup=0)
    return [side_row(job, about, side, measure) for measure in side.samples or ("later click",)]


def _command(job: Job, name: str, variant: str, scheme: str) -> Command:
    if name == PYTORCH:
        words = [sys.executable, "-m", f"{_HERE}.pytorch", variant, str(job.threads)]
        return Command(Who(name, "fp32", name), words)
    bundle = bundle_of(job, variant, scheme)
    words = [sys.executable, "-m", f"{_HERE}.ours", str(bundle.folder), str(job.threads)]
    return Command(our_side(bundle, name), words)


def _same(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> float:
    """Share of tokens before the first difference of each answer."""
    total = sum(len(answer) for answer in ours)
    same = sum(first_difference(a, b) for a, b in zip(ours, theirs, strict=False))
    return same / total if total else 0.0
