"""Measures a grid of bundles and tasks on one device, and says of every place what came of it.

A place gets a fresh process. Rows come as soon as a place is done; what fails keeps its row with the reason,
and the samples it gave before. A device that is lost ends the run: what was not measured says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import msgspec

from pam_edge.benchmarks.devices.gates import wait_for
from pam_edge.benchmarks.devices.local import Device
from pam_edge.benchmarks.harness.machine import Watch, bandwidth_of, this_commit
from pam_edge.benchmarks.harness.rows import Load, Machine, Row, Series, State, Unit, stats
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.benchmarks.speed.plan import Cell, Plan
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import DeviceError, PamEdgeError

SIDE = "pam-edge"
Sink = Callable[[list[Row]], None]
Tell = Callable[[str], None]
_MEMORY = {"peak": "peak memory", "own": "own pages", "mapped": "mapped files"}


@dataclass(frozen=True)
class Scene:
    """What all rows of one run share."""

    machine: Machine
    commit: str
    dirty: bool


@dataclass
class _Side:
    """One bundle of a cell and what came of it so far."""

    bundle: Bundle
    worker: Worker | None = None
    times: dict[str, list[int]] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    energy: dict[str, list[int]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    watch: Watch = field(default_factory=lambda: Watch(average_before=0.0))
    before: State | None = None
    after: State | None = None
    series: Series | None = None
    problem: PamEdgeError | None = None


def measure(plan: Plan, device: Device, sink: Sink, tell: Tell) -> list[PamEdgeError]:
    """Go through the plan; returns what went wrong, in order. A cell's rows go to `sink` when it is done."""
    problems: list[PamEdgeError] = []
    try:
        scene, read = _look(device, max(cell.threads for cell in plan.cells))
    except PamEdgeError as e:
        commit, dirty = this_commit()
        scene = Scene(_unknown(device.name), commit, dirty)
        for cell in plan.cells:
            sink([_failed(scene, cell, bundle, str(e)) for bundle in cell.bundles])
        return [e]
    sink([read])
    lost: PamEdgeError | None = None
    for number, cell in enumerate(plan.cells, start=1):
        if lost is not None:
            reason = f"not measured: {lost}"
            sink([_failed(scene, cell, bundle, reason) for bundle in cell.bundles])
            continue
        tell(f"[{number}/{len(plan.cells)}] {cell.text}")
        sides = [_Side(bundle) for bundle in cell.bundles]
        _cell(plan, device, cell, sides, tell)
        for side in sides:
            if side.problem is not None:
                problems.append(side.problem)
                tell(f"failed: {side.problem}")
            sink(_rows(scene, cell, side))
        lost = next((s.problem for s in sides if isinstance(s.problem, DeviceError)), None)
    return problems


def _look(device: Device, threads: int) -> tuple[Scene, Row]:
    """The device as it is, and the row of how fast it reads memory."""
    with device.start() as worker:
        machine = msgspec.convert(worker.ask("machine"), Machine)
        told = worker.ask("bandwidth", {"threads": threads})
    rate = bandwidth_of(told["samples"], told["bytes"])
    machine = msgspec.structs.replace(machine, device=device.name, read_bytes_per_s=rate)
    commit, dirty = this_commit()
    scene = Scene(machine, commit, dirty)
    row = Row(
        part="bandwidth",
        measure="read",
        side="machine",
        variant="",
        scheme="",
        runtime="libc",
        versions={},
        commit=commit,
        dirty=dirty,
        bundle="",
        machine=machine,
        threads=threads,
        settings={"how": "memchr over an array a thread", "bytes": str(told["bytes"])},
        work=told["bytes"],
        samples=tuple(told["samples"]),
        stats=stats(told["samples"]),
        figures={"gb_per_s": rate / 1e9},
    )
    return scene, row


def _cell(plan: Plan, device: Device, cell: Cell, sides: list[_Side], tell: Tell) -> None:
    """Prepare, load and take turns: A, B, A, B. What goes wrong is kept with its side."""
    with ExitStack() as stack:
        for side in sides:
            with _kept(side):
                folder = device.prepare(side.bundle)
                worker = stack.enter_context(device.start())
                side.before = _gated(plan, worker, tell)
                asked = {"bundle": folder, "task": cell.task, "threads": cell.threads}
                told = worker.ask("load", asked)
                side.times["load"], side.versions = [told["load"]], told["versions"]
                side.watch.average_before = told["average"]
                side.worker = worker
                worker.rest()
        for number in range(plan.warmup + plan.repeat):
            for side in sides:
                if side.worker is None or side.problem is not None:
                    continue
                with _kept(side):
                    if plan.gates:
                        _gated(plan, side.worker, tell)
                    asked = {"task": cell.task, "work": _fields(cell)}
                    _note(side, side.worker.ask("turn", asked), counts=number >= plan.warmup)
                    side.worker.rest()
        for side in sides:
            if side.worker is not None and side.problem is None:
                with _kept(side):
                    series = side.worker.ask("series")
                    side.series = None if series is None else msgspec.convert(series, Series)
                    side.after = msgspec.convert(side.worker.ask("state"), State)


class _kept:  # noqa: N801 - reads as a statement
    """Keeps one of our errors with its side instead of raising it."""

    def __init__(self, side: _Side) -> None:
        self._side = side

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        if isinstance(error, PamEdgeError):
            self._side.problem = error
            return True
        return False


def _gated(plan: Plan, worker: Worker, tell: Tell) -> State:
    def look() -> State:
        return msgspec.convert(worker.ask("state"), State)

    return wait_for(plan.gates, look, seconds=plan.cool_down, tell=tell)


def _fields(cell: Cell) -> dict[str, int]:
    work = cell.work
    names = ("tokens", "clicks", "prompt", "frames", "objects", "size")
    return {name: getattr(work, name) for name in names}


def _note(side: _Side, told: Mapping[str, Any], *, counts: bool) -> None:
    """Take one turn's answer. What a warm-up turn took is not kept, but for memory, where most counts."""
    side.sizes |= {kind: [size] for kind, size in told["memory"].items()}
    if not counts:
        return
    if told["gpu"] is not None:
        side.sizes.setdefault("gpu", []).append(told["gpu"])
    for name, samples in told["times"].items():
        side.times.setdefault(name, []).extend(samples)
    side.work |= told["work"]
    for name, figures in told["figures"].items():
        for key, value in figures.items():
            side.figures.setdefault(name, {}).setdefault(key, []).append(value)
    for source, taken in told["energy"].items():
        side.energy.setdefault(source, []).append(taken)
    if told["ticks"] is not None:
        total, others, stolen = told["ticks"]
        side.watch.add((total, others, stolen))


def _rows(scene: Scene, cell: Cell, side: _Side) -> list[Row]:
    """Everything of one side; a side without any turn is one row with its reason."""
    reason = "" if side.problem is None else str(side.problem)
    load = side.watch.load()
    if not side.times.get("total"):
        return [_failed(scene, cell, side.bundle, reason or "no turn was taken", before=side.before)]
    rows = []
    for name, samples in side.times.items():
        figures = {key: median(values) for key, values in side.figures.get(name, {}).items()}
        row = _row(scene, cell, side, name, samples, load=load, figures=figures, error=reason)
        rows.append(msgspec.structs.replace(row, work=side.work.get(name, 1.0)))
    size = side.bundle.total_bytes
    rows.append(_row(scene, cell, side, "size", [size], unit="bytes"))
    for kind, sizes in side.sizes.items():
        name = _MEMORY.get(kind, "gpu memory")
        figures = {"of_bundle": median(sizes) / size}
        row = _row(scene, cell, side, name, sizes, unit="bytes", figures=figures)
        series = side.series if kind == "peak" else None
        rows.append(msgspec.structs.replace(row, series=series))
    for source, taken in side.energy.items():
        rows.append(_row(scene, cell, side, f"energy, {source}", taken, unit="uJ", load=load))
    if not side.energy:
        rows.append(_row(scene, cell, side, "energy", [], unit="uJ", error="this device does not tell"))
    return rows


def _row(
    scene: Scene,
    cell: Cell,
    side: _Side,
    measure: str,
    samples: list[int],
    *,
    unit: Unit = "ns",
    load: Load | None = None,
    figures: Mapping[str, float] | None = None,
    error: str = "",
) -> Row:
    manifest = side.bundle.manifest
    return Row(
        part=cell.task,
        measure=measure,
        side=SIDE,
        variant=manifest.variant.name,
        scheme=manifest.scheme,
        runtime=manifest.runtime,
        versions=side.versions,
        commit=scene.commit,
        dirty=scene.dirty,
        bundle=manifest.sha256,
        machine=scene.machine,
        threads=cell.threads,
        settings=cell.work.settings(cell.task),
        load=load,
        unit=unit,
        samples=tuple(samples),
        stats=stats(samples) if samples else None,
        figures=dict(figures or {}),
        error=error,
        before=side.before,
        after=side.after,
    )


def _failed(scene: Scene, cell: Cell, bundle: Bundle, why: str, *, before: State | None = None) -> Row:
    side = _Side(bundle, before=before)
    return _row(scene, cell, side, "total", [], error=why)


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
