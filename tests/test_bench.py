"""`pam-edge bench`: the grid, what becomes of failures and of a device that is lost, and nano for real."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from command import pam_edge, refused
from test_rows import HERE

from pam_edge.benchmarks.devices.gates import read_gates, wait_for
from pam_edge.benchmarks.harness.messages import Iteration, Request
from pam_edge.benchmarks.harness.opened import Opened, Traced
from pam_edge.benchmarks.harness.output import as_text
from pam_edge.benchmarks.harness.rows import Row, State, read_rows
from pam_edge.benchmarks.harness.watching import MemoryWatch
from pam_edge.benchmarks.speed import bench, requests
from pam_edge.benchmarks.speed.bench import measure
from pam_edge.benchmarks.speed.plan import Axes, Plan, grid, read_numbers, read_task_names
from pam_edge.benchmarks.speed.tasks import TASKS, Work, iterate, open_for
from pam_edge.bundle.builtin import BUNDLE
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import DeviceError, IntegrityError, PamEdgeError, UsageError
from pam_edge.runtimes.executorch.etdump import Execution

Script = Callable[[int, Request[Any]], None]  # a worker's number and what it is asked; it may raise


class FakeWorker:
    """Answers like a runner."""

    def __init__(self, number: int, log: list[Request[Any]], script: Script) -> None:
        self.number, self.log, self.script, self.iterations = number, log, script, 0

    def ask(self, request: Request[Any]) -> Any:
        self.log.append(request)
        self.script(self.number, request)
        match request:
            case requests.AskMachine():
                return HERE
            case requests.AskBandwidth():
                return requests.Bandwidth((1000, 1000, 1000), 36_000)
            case requests.AskState():
                return State(temperatures_c={"cpu": 50.0 + len(self.log)})
            case requests.Load():
                return requests.Loaded(5, {"onnxruntime": "1"}, 0.5)
            case requests.Iterate():
                self.iterations += 1
                return Iteration(
                    samples={"total": [100 * self.iterations], "decode": [40]},
                    work={"decode": 8},
                    figures={"decode": {"tokens_per_s": 10.0 * self.iterations}},
                    energy={"module": 7},
                    memory={"peak": 1000, "own": 600, "mapped": 400},
                    ticks=(100, 20, 0),
                )
            case requests.AskSeries():
                return None
        raise AssertionError(request)

    def rest(self) -> None: ...

    def __enter__(self) -> FakeWorker:
        return self

    def __exit__(self, *_: object) -> None: ...


class FakeDevice:
    """Workers by number."""

    name = "fake"

    def __init__(self, script: Script = lambda number, request: None) -> None:
        self.log: list[Request[Any]] = []
        self._script, self._count = script, 0

    def prepare(self, bundle: Bundle) -> str:
        return "there"

    def start(self) -> Any:
        self._count += 1
        return FakeWorker(self._count - 1, self.log, self._script)


@pytest.fixture(scope="module")
def nano() -> Bundle:
    return Bundle.open(BUNDLE, check=False)


def run(nano: Bundle, device: FakeDevice, axes: Axes, **given: Any) -> tuple[list[Row], list[PamEdgeError]]:
    rows: list[Row] = []
    cells = grid((nano,), ("clicks",), axes, interleave=False)
    plan = Plan(cells, **{"repeat": 3, "warmup": 1, **given})
    return rows, measure(plan, device, rows.extend, lambda text: None)


def test_every_list_makes_a_grid_of_what_a_task_reads(nano: Bundle) -> None:
    axes = Axes(clicks=(1, 4), prompt=(8, 16), tokens=(2,), threads=(1, 2))
    cells = grid((nano, nano), ("clicks", "decode"), axes, interleave=False)
    assert len(cells) == 2 * 2 * 2 + 2 * 2 * 2  # bundles x threads x what each reads
    assert [cell.work.clicks for cell in cells if cell.task == "clicks" and cell.threads == 1] == [1, 1, 4, 4]
    assert len(grid((nano, nano), ("clicks",), axes, interleave=True)) == 4
    assert read_task_names("video, image,video") == ("video", "image")
    assert read_numbers("4,1,4", "--clicks") == (4, 1)


@pytest.mark.parametrize("text", ["", "0", "1,,2", "x", "-1", "1.5"])
def test_lists_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--clicks"):
        read_numbers(text, "--clicks")


def test_rows_hold_every_sample_that_counts(nano: Bundle) -> None:
    rows, problems = run(nano, FakeDevice(), Axes(clicks=(4,)))
    assert problems == []
    found = {row.measure: row for row in rows}
    assert found["total"].samples == (200, 300, 400)  # the warm-up's 100 does not count
    total = found["total"].stats
    assert total is not None and (total.median, total.p25, total.p75) == (300, 250, 350)
    assert found["decode"].figures == {"tokens_per_s": 30.0} and found["decode"].work == 8
    assert found["load"].samples == (5,) and found["energy, module"].samples == (7, 7, 7)
    assert found["peak memory"].unit == "bytes" and found["size"].samples == (nano.total_bytes,)
    row = found["total"]
    assert row.settings == {"clicks": "4", "tokens": "32"} and row.bundle == nano.manifest.sha256
    assert row.machine.device == "fake" and row.machine.read_bytes_per_s == 36e9
    assert row.load is not None and row.load.others_mean == 0.2 and not row.load.idle
    assert row.before is not None and row.after is not None
    assert row.after.temperatures_c["cpu"] > row.before.temperatures_c["cpu"]


def test_a_device_lost_in_an_iteration_keeps_what_it_gave_and_ends_the_run(nano: Bundle) -> None:
    iterations = 0

    def script(number: int, request: Request[Any]) -> None:
        nonlocal iterations
        iterations += isinstance(request, requests.Iterate)
        if iterations == 4:
            raise DeviceError("gone")

    rows, problems = run(nano, FakeDevice(script), Axes(clicks=(1, 4, 16)))
    assert [type(problem) for problem in problems] == [DeviceError]
    first = next(row for row in rows if row.measure == "total")
    assert first.samples == (200, 300) and first.error == "gone" and first.stats is not None
    lost = [row for row in rows if row.settings.get("clicks") in ("4", "16")]
    assert [(row.measure, row.stats, row.error) for row in lost] == [
        ("total", None, "not measured: gone")
    ] * 2
    assert "INCOMPLETE: gone" in as_text(rows, "md") and "not measured: gone" in as_text(rows, "md")


def test_what_fails_by_itself_ends_nothing_else(nano: Bundle) -> None:
    def script(number: int, request: Request[Any]) -> None:
        if isinstance(request, requests.Load) and number == 1:  # 0 is the look at the machine
            raise IntegrityError("damaged")

    rows, problems = run(nano, FakeDevice(script), Axes(clicks=(1, 4)))
    assert [str(problem) for problem in problems] == ["damaged"]
    assert [row.error for row in rows if row.settings.get("clicks") == "1"] == ["damaged"]
    assert any(row.measure == "total" and row.stats for row in rows if row.settings.get("clicks") == "4")


def test_a_device_that_is_never_reached_leaves_rows_with_the_reason(nano: Bundle) -> None:
    class Gone(FakeDevice):
        def start(self) -> Any:
            raise DeviceError("unauthorized")

    rows, problems = run(nano, Gone(), Axes(clicks=(1, 4)))
    assert [row.error for row in rows] == ["unauthorized"] * 2 and isinstance(problems[0], DeviceError)
    assert {row.machine.device for row in rows} == {"fake"}


def test_bundles_are_interleaved(nano: Bundle) -> None:
    order: list[int] = []

    def script(number: int, request: Request[Any]) -> None:
        if isinstance(request, requests.Iterate):
            order.append(number)

    cells = grid((nano, nano), ("clicks",), Axes(), interleave=True)
    measure(Plan(cells, repeat=2, warmup=1), FakeDevice(script), lambda rows: None, lambda text: None)
    assert order == [1, 2, 1, 2, 1, 2]


def test_a_gate_waits_and_then_gives_up() -> None:
    gates, clock, heat, said = read_gates(["temp<55, charging=no"]), [0.0], [70.0], list[str]()

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        heat[0] -= 6

    def look() -> State:
        return State(temperatures_c={"gpu": heat[0], "cpu": 40.0}, charging=False)

    given: dict[str, Any] = {"tell": said.append, "sleep": sleep, "now": lambda: clock[0]}
    assert wait_for(gates, look, seconds=60, **given).temperatures_c["gpu"] == 52
    assert said == ["waiting: temperature is 70, the gate is temp<55"]
    heat[0] = 1000
    with pytest.raises(DeviceError, match=r"temperature is 928.*waited at most 60 s"):
        wait_for(gates, look, seconds=60, **given)


@pytest.mark.parametrize(
    ("text", "state", "why"),
    [
        ("temp<55", State(), "tells no temperature"),
        ("battery>50", State(battery=0.5), "battery level is 50"),
        ("battery>50", State(battery=0.51), None),
        ("charging=no", State(charging=True), "charging is yes"),
        ("throttling=none", State(throttling="severe"), "throttling is severe"),
        ("free>2", State(free_bytes=1_900_000_000), "free memory is 1.9"),
    ],
)
def test_gates_say_why_they_do_not_hold(text: str, state: State, why: str | None) -> None:
    (gate,) = read_gates([text])
    found = gate.fails(state)
    assert found is None if why is None else found is not None and why in found


@pytest.mark.parametrize("text", ["", "heat<5", "temp=5", "temp<x", "charging<1", "charging=maybe", "temp"])
def test_gates_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--gate"):
        read_gates([text])


def test_rates_are_of_what_was_measured() -> None:
    found = Iteration()
    found.add("decode", 2e9)
    found.rate("decode", 0)
    assert found.figures == {}  # an answer of one token has no step
    found.rate("decode", 10, step_bytes=10**8)
    assert found.figures == {"decode": {"tokens_per_s": 5.0, "gb_per_s": 0.5, "bytes_per_token": 10**8}}


def test_memory_is_watched_until_the_first_iteration_ends() -> None:
    sizes = iter([{"peak": n, "own": n, "mapped": 1} for n in (1, 5, 9, 3, 20)])
    watch = MemoryWatch(read=lambda: next(sizes), every=60)
    watch.mark("load")
    watch._look()
    watch.keep()
    assert watch.most() == {"peak": 9, "own": 9, "mapped": 1}  # not what the last look gave
    series = watch.series()
    watch.close()
    assert series is not None and set(series.values) == {"own", "mapped"}
    assert series.values["own"] == (5, 9) and "load" in series.marks


def test_every_task_of_nano_gives_its_stages() -> None:
    opened, marks = Opened(BUNDLE, 2), list[str]()
    work = Work(tokens=3, clicks=2, prompt=20, frames=3, objects=2)
    found = {task: iterate(opened, task, work, marks.append) for task in TASKS if task != "operators"}
    stages = ("preprocess", "encode", "mask", "perceiver", "prefill", "decode", "first token", "total")
    image = found["image"]
    assert all(image.samples[stage][0] > 0 for stage in stages)
    parts = sum(image.samples[stage][0] for stage in stages[:6])
    assert parts < image.samples["total"][0]  # stages are of this turn
    assert image.work["decode"] == 2 and image.figures["decode"]["bytes_per_token"] > 1e6
    assert len(found["clicks"].samples["click"]) == 2 and found["clicks"].work["total"] == 2
    video = found["video"].samples
    assert len(video["frame"]) == 3 and video["memory"][1] > 0 and len(video["caption"]) == 2
    decode = found["decode"]
    assert decode.work == {"prefill": 20, "decode": 3} and decode.figures["decode"]["tokens_per_s"] > 0
    assert marks[:4] == ["look", "click", "words", "end"]
    with pytest.raises(UsageError, match="this bundle holds 1024"):
        iterate(opened, "decode", Work(prompt=2000), marks.append)


class Told(Traced):
    """Nano in its own engine, with a record as ExecuTorch would give it."""

    session, decoder = Opened.session, Opened.decoder

    def __init__(self) -> None:
        Opened.__init__(self, BUNDLE, 2)

    def traces(self) -> dict[str, tuple[Execution, ...]]:
        calls = (
            Execution(100, {"XNNPACK": (60, 10), "layer_norm": (20,)}),
            Execution(50, {"XNNPACK": (40,)}),
        )
        return {"image_encoder": calls}


def test_operators_are_told_call_by_call() -> None:
    one = iterate(Told(), "operators", Work(tokens=1, frames=2), lambda name: None)
    found = {name: taken for name, taken in one.samples.items() if name != "total"}
    assert found == {
        "image_encoder: all": [100, 50],
        "image_encoder: XNNPACK": [70, 40],
        "image_encoder: layer_norm": [20, 0],
        "image_encoder: rest": [10, 10],
    }
    calls = {name: figures["calls"] for name, figures in one.figures.items()}
    assert calls == {"image_encoder: XNNPACK": 1.5, "image_encoder: layer_norm": 0.5}
    assert one.samples["total"][0] > 0
    with pytest.raises(UsageError, match=r"only ExecuTorch .* this bundle is for onnxruntime"):
        open_for("operators", BUNDLE, 1)


def test_a_larger_picture_is_clicked_at_the_same_place() -> None:
    opened = Opened(BUNDLE, 2)
    found = [iterate(opened, "image", Work(tokens=1, size=size), lambda name: None) for size in (0, 1500)]
    assert found[1].samples["preprocess"][0] > found[0].samples["preprocess"][0]


def test_the_command_measures_nano_and_keeps_what_failed(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    words = ["bench", "nano", "--task", "decode", "--tokens", "2", "-r", "2", "--warmup", "0"]
    result = pam_edge(*words, "--prompt", "8,9999", "-o", "jsonl", "--out", out)
    assert result.code == 2 and "this bundle holds 1024" in result.err and not result.out
    rows = read_rows(out)
    held = {(row.measure, row.settings.get("prompt")): row for row in rows}
    good = held["decode", "8"]
    assert len(good.samples) == 2 and min(good.samples) > 0 and good.versions["onnxruntime"]
    assert good.machine.device == "local" and good.machine.read_bytes_per_s and good.before is not None
    assert held["total", "9999"].stats is None and "9999" in held["total", "9999"].error
    memory = held["peak memory", "8"]
    assert memory.samples[0] > 1 << 24
    if memory.series is not None:
        assert max(memory.series.values["own"]) <= memory.samples[0]
        assert list(memory.series.marks)[:3] == ["load", "prefill", "decode"]


def test_rows_in_every_form(nano: Bundle) -> None:
    rows, _ = run(nano, FakeDevice(), Axes(clicks=(4,)))
    document = json.loads(as_text(rows, "json"))
    assert document["schema"] == 1 and len(document["rows"]) == len(rows)
    lines = [msgspec.json.decode(line, type=Row) for line in as_text(rows, "jsonl").splitlines()]
    assert lines == rows
    table = list(csv.DictReader(io.StringIO(as_text(rows, "csv"))))
    total = next(line for line in table if line["measure"] == "total")
    assert total["samples"] == "200 300 400" and float(total["median"]) == 300 and total["others"] == "0.2000"
    assert "| nano | total | pam-edge |" in as_text(rows, "md")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nano", "--task", "paint"], "--task 'paint'"),
        (["nano", "--clicks", "0"], "--clicks"),
        (["nano", "--gate", "hot"], "--gate"),
        (["nano", "-o", "xml"], "-o 'xml'"),
        (["nano", "--device", "toaster"], "--device 'toaster'"),
        (["nano,nano"], "twice"),
        (["nowhere"], "no bundle at nowhere"),
    ],
)
def test_words_that_make_no_sense(words: list[str], said: str) -> None:
    refused(pam_edge("bench", *words), 2, said)


def test_a_place_that_cannot_be_written_is_known_before_slow_work(tmp_path: Path) -> None:
    refused(pam_edge("bench", "nano", "--out", tmp_path / "no" / "x.md"), 3, "there is no folder")
    (tmp_path / "x.jsonl").write_text("nonsense\n")
    refused(pam_edge("bench", "nano", "-o", "jsonl", "--out", tmp_path / "x.jsonl"), 6, "line 1 is no Row")


def test_medians_are_middles() -> None:
    assert bench.median([3, 1, 2]) == 2 and bench.median([4, 1]) == np.median([4, 1])
