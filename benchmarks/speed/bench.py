"""Measures a grid of bundles and tasks on one device, and says of every cell what came of it.

Each bundle of a cell gets a fresh process. Rows come as soon as a cell is done; what fails keeps its row with
the reason, and the samples it gave before. A device that is lost ends the run: what was not measured says so.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import msgspec

from pam_edge.benchmarks.devices.gates import wait_for
from pam_edge.benchmarks.devices.local import Device
from pam_edge.benchmarks.harness.iterations import Side, Started, Tell, interleave, open_sides
from pam_edge.benchmarks.harness.machine import Watch, this_commit
from pam_edge.benchmarks.harness.messages import Iteration
from pam_edge.benchmarks.harness.row_builder import Conditions, Subject, Who, make_row, with_bandwidth
from pam_edge.benchmarks.harness.rows import Machine, Row, Series, State
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.benchmarks.speed.plan import Cell, Plan
from pam_edge.benchmarks.speed.requests import AskBandwidth, AskMachine, AskSeries, AskState, Iterate, Load
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import DeviceError, PamEdgeError

SIDE = "pam-edge"
Sink = Callable[[list[Row]], None]
_MEMORY = {"peak": "peak memory", "own": "own pages", "mapped": "mapped files"}


@dataclass
class _Measured:
    """One bundle of a cell: where the device stood before and after, and its side."""

    bundle: Bundle
    side: Side = field(init=False)
    before: State | None = None
    after: State | None = None
    series: Series | None = None


def measure(plan: Plan, device: Device, sink: Sink, tell: Tell) -> list[PamEdgeError]:
    """Go through the plan; returns what went wrong, in order. A cell's rows go to `sink` when it is done."""
    problems: list[PamEdgeError] = []
    lost: PamEdgeError | None = None
    try:
        conditions, read = _look(plan, device)
        sink([read])
    except PamEdgeError as e:
        conditions = Conditions(_unknown(device.name), *this_commit(), plan.workload)
        lost, problems = e, [e]
    reason = "" if lost is None else str(lost)
    for number, cell in enumerate(plan.cells, start=1):
        if lost is not None:
            sink([_failed(conditions, cell, bundle, reason) for bundle in cell.bundles])
            continue
        tell(f"[{number}/{len(plan.cells)}] {cell.text}")
        found = [_measured(plan, device, cell, bundle, tell) for bundle in cell.bundles]
        _cell(plan, found)
        for one in found:
            if one.side.problem is not None:
                problems.append(one.side.problem)
                tell(f"failed: {one.side.problem}")
            sink(_rows(conditions, cell, one))
        lost = next((one.side.problem for one in found if isinstance(one.side.problem, DeviceError)), None)
        reason = f"not measured: {lost}"
    return problems


def _look(plan: Plan, device: Device) -> tuple[Conditions, Row]:
    """The device as it is, and the row of how fast it reads memory."""
    threads = max(cell.threads for cell in plan.cells)
    with device.start() as worker:
        machine = worker.ask(AskMachine())
        read = worker.ask(AskBandwidth(threads=threads))
    machine = msgspec.structs.replace(machine, device=device.name)
    return with_bandwidth(machine, read.samples, read.bytes, threads=threads, workload=plan.workload)


def _measured(plan: Plan, device: Device, cell: Cell, bundle: Bundle, tell: Tell) -> _Measured:
    """A bundle of a cell, with nothing started yet."""
    found = _Measured(bundle)

    def start(stack: ExitStack) -> Started:
        folder = device.prepare(bundle)
        worker = stack.enter_context(device.start())
        found.before = _gated(plan, worker, tell)
        loaded = worker.ask(Load(bundle=folder, task=cell.task, threads=cell.threads))
        found.side.samples["load"] = [loaded.ns]
        found.side.watch.average_before = loaded.average
        return Started(worker, partial(iterate, worker), found.side.who.running(loaded.versions))

    def iterate(worker: Worker) -> Iteration:
        if plan.gates:
            _gated(plan, worker, tell)
        return worker.ask(Iterate(task=cell.task, work=cell.work))

    watch = Watch(average_before=0.0)  # the device says it when it loads
    found.side = Side(_who(bundle), start, local=False, keeps_partial=True, watch=watch)
    return found


def _cell(plan: Plan, found: list[_Measured]) -> None:
    """Open the bundles of a cell and interleave them: A, B, A, B. What goes wrong is kept with its side."""
    sides = [one.side for one in found]
    with open_sides(sides, _silent):
        interleave(sides, repeat=plan.repeat, warmup=plan.warmup, tell=_silent)
        for one in found:
            if one.side.started is not None and one.side.problem is None:
                with one.side.keeps_problem(_silent):
                    one.series = one.side.started.worker.ask(AskSeries())
                    one.after = one.side.started.worker.ask(AskState())


def _silent(_: str) -> None:
    """`measure` reports problems cell by cell."""


def _gated(plan: Plan, worker: Worker, tell: Tell) -> State:
    return wait_for(plan.gates, lambda: worker.ask(AskState()), seconds=plan.cool_down, tell=tell)


def _rows(conditions: Conditions, cell: Cell, one: _Measured) -> list[Row]:
    """Everything of one bundle; one without any iteration is one row with its reason."""
    side, size = one.side, one.bundle.total_bytes
    if not side.samples.get("total"):
        why = side.error or "no iteration was made"
        return [_failed(conditions, cell, one.bundle, why, before=one.before)]
    row = partial(
        make_row, conditions, _subject(cell, one.bundle), side.who, before=one.before, after=one.after
    )
    rows = [
        row(
            measure=name,
            samples=samples,
            work=side.work.get(name, 1.0),
            load=side.load,
            figures=side.figures(name),
            error=side.error,
        )
        for name, samples in side.samples.items()
    ]
    rows.append(row(measure="size", samples=[size], unit="bytes"))
    for kind, sizes in side.memory.items():
        rows.append(
            row(
                measure=_MEMORY.get(kind, "gpu memory"),
                samples=sizes,
                unit="bytes",
                figures={"of_bundle": median(sizes) / size},
                series=one.series if kind == "peak" else None,
            )
        )
    for source, taken in side.energy.items():
        rows.append(row(measure=f"energy, {source}", samples=taken, unit="uJ", load=side.load))
    if not side.energy:
        rows.append(row(measure="energy", unit="uJ", error="this device does not report it"))
    return rows


def _failed(
    conditions: Conditions, cell: Cell, bundle: Bundle, why: str, *, before: State | None = None
) -> Row:
    return make_row(
        conditions, _subject(cell, bundle), _who(bundle), measure="total", error=why, before=before
    )


def _subject(cell: Cell, bundle: Bundle) -> Subject:
    variant = bundle.manifest.variant.name
    return Subject(cell.task, variant, cell.threads, cell.work.settings(cell.task))


def _who(bundle: Bundle) -> Who:
    manifest = bundle.manifest
    return Who(SIDE, manifest.scheme, manifest.runtime, bundle=manifest.sha256)


def _unknown(name: str) -> Machine:
    """A device that was never reached."""
    return Machine(
        device=name,
        cpu=None,
        cores=0,
        memory_bytes=None,
        free_bytes=None,
        system="",
        python="",
        features=(),
        read_bytes_per_s=None,
    )
