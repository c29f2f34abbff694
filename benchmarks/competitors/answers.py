"""Part `answers`: one click and four answers, once with a shared prefix, once as the original makes them.

Part `clicks`: several clicks on one picture, and the cache's counters that say what was computed again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from pam_edge.benchmarks.competitors.bundles import bundle_of, our_side
from pam_edge.benchmarks.competitors.job import Job, Subject, Who, figure
from pam_edge.benchmarks.competitors.pins import OURS, PYTORCH
from pam_edge.benchmarks.competitors.ratios import ratios
from pam_edge.benchmarks.harness.machine import Ticks, Watch
from pam_edge.benchmarks.harness.rows import Row
from pam_edge.benchmarks.harness.scene import TASKS
from pam_edge.benchmarks.harness.turns import Side, Turn, take_turns
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.core.errors import PamEdgeError, QualityError
from pam_edge.verify.error_metrics import first_difference

APART = f"{OURS}, four calls"
GOALS = {(APART, "total"): 4.0, (PYTORCH, "total"): 10.0}
CLICKS = 10
_HERE = "pam_edge.benchmarks.competitors"


def subject(job: Job, variant: str) -> Subject:
    """What is measured."""
    return Subject("answers", variant, {"tasks": ",".join(TASKS), "tokens": str(job.answer_tokens)})


def click_subject(job: Job, variant: str) -> Subject:
    """What the part `clicks` measures."""
    return Subject("clicks", variant, {"clicks": str(CLICKS), "tokens": str(job.answer_tokens)})


def measure(job: Job, variant: str, scheme: str) -> list[Row]:
    """Rows of our flow, of the same engine without sharing, of PyTorch, and of the first against the others.

    Turns of a side that says too little are no samples.
    """
    about = subject(job, variant)
    rows: list[Row] = []
    whos: dict[str, Who] = {}
    sides: list[Side] = []
    said: dict[str, list[list[int]]] = {}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name in (OURS, APART, *([PYTORCH] if PYTORCH in job.peers else [])):
            who = Who(name, "fp32" if name == PYTORCH else scheme, name)
            what = {OURS: "once", APART: "apart"}.get(name, "reference")
            try:
                if name == APART and OURS in workers:
                    worker, who = workers[OURS], our_side(bundle_of(job, variant, scheme), APART)
                else:
                    who, command = _side(job, name, variant, scheme)
                    worker = stack.enter_context(Worker(name, command, log=job.logs / f"answers-{name}.txt"))
                    job.tell(f"{name}: loading {variant}")
                    versions = worker.ask("load", {"answers": True, "decoder": True})
                    who = who.running(versions)
                turn = _turn(worker, what, job.answer_tokens, said.setdefault(name, []))
                # Opens graphs and warms up with a quarter of the work.
                worker.ask(what, {"tasks": TASKS[:1], "tokens": job.answer_tokens})
                worker.rest()
            except PamEdgeError as e:
                rows.append(figure(job, about, who, measure="total", error=str(e)))
                job.tell(f"{name}: {e}")
                continue
            whos[name], workers[name] = who, worker
            sides.append(Side(name, worker, turn))
        take_turns(sides, rounds=job.rounds, warmup=0, tell=job.tell)
    for side in sides:
        figures = {"same_tokens": _same(said.get(OURS, []), said[side.name])} if side.samples else {}
        samples = side.samples.get("total", [])
        rows.append(
            figure(
                job, about, whos[side.name], measure="total", samples=samples, work=len(TASKS),
                load=side.load, figures=figures, error=side.error,
            )
        )  # fmt: skip
    return [*rows, *ratios(job, about, whos, sides, measures=("total",), goals=GOALS)]


def measure_clicks(job: Job, variant: str, scheme: str) -> list[Row]:
    """Rows of the first click, of each later one, and of one made again."""
    about = click_subject(job, variant)
    who = Who(OURS, scheme, OURS)
    times: dict[str, list[int]] = {}
    counters: dict[str, float] = {}
    watch = Watch()
    try:
        who, command = _side(job, OURS, variant, scheme)
        with Worker(OURS, command, log=job.logs / "clicks.txt") as worker:
            job.tell(f"clicks: loading {variant}")
            worker.ask("load", {"decoder": True})
            asked = {"clicks": CLICKS, "tokens": job.answer_tokens}
            worker.ask("clicks", {**asked, "clicks": 2})
            for number in range(job.rounds):
                pids = {os.getpid(), worker.pid}
                before = Ticks.read(pids)
                found = worker.ask("clicks", asked)
                watch.note(before, Ticks.read(pids))
                for name, samples in found["times"].items():
                    times.setdefault(name, []).extend(samples)
                counters = {name: float(count) for name, count in found["cache"].items()}
                job.tell(f"round {number + 1} of {job.rounds}")
    except PamEdgeError as e:
        return [figure(job, about, who, measure="later click", error=str(e))]
    load = watch.load()
    return [
        figure(job, about, who, measure=name, samples=samples, load=load, figures=counters)
        for name, samples in times.items()
    ]


def _side(job: Job, name: str, variant: str, scheme: str) -> tuple[Who, list[str]]:
    if name == PYTORCH:
        return Who(name, "fp32", name), [
            *(sys.executable, "-m", f"{_HERE}.pytorch", variant, str(job.threads))
        ]
    bundle = bundle_of(job, variant, scheme)
    command = [sys.executable, "-m", f"{_HERE}.ours", str(bundle.folder), str(job.threads)]
    return our_side(bundle, name), command


def _turn(worker: Worker, what: str, tokens: int, said: list[list[int]]) -> Turn:
    def turn() -> Mapping[str, Sequence[int]]:
        found: dict[str, Any] = worker.ask(what, {"tasks": TASKS, "tokens": tokens})
        said[:] = found["said"]
        if [len(answer) for answer in said] != [tokens] * len(TASKS):
            raise QualityError(f"{worker.name} said {[len(a) for a in said]} tokens; {tokens} each asked for")
        return {"total": found["total"]}

    return turn


def _same(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> float:
    """Share of tokens before the first difference of each answer."""
    total = sum(len(answer) for answer in ours)
    same = sum(first_difference(a, b) for a, b in zip(ours, theirs, strict=False))
    return same / total if total else 0.0
