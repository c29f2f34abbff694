"""Rows of measurements: statistics, files that keep every row once, and the machine they were made on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest

from pam_edge.benchmarks.harness import machine
from pam_edge.benchmarks.harness.machine import Ticks, Watch, read_bandwidth, require_idle, this_machine
from pam_edge.benchmarks.harness.rows import Machine, Row, against, put_rows, read_rows, stats
from pam_edge.core.errors import EnvironmentProblem, IntegrityError

HERE = Machine(
    device="local",
    cpu="a processor",
    cores=2,
    memory_bytes=8 << 30,
    free_bytes=None,
    system="Linux",
    python="3.11.7",
    features=("avx2",),
    read_bytes_per_s=36e9,
)
ROW = Row(
    part="decoder",
    measure="decode",
    side="pam-edge",
    variant="nano",
    scheme="int4",
    runtime="onnxruntime",
    versions={"onnxruntime": "1.31.1"},
    commit="c" * 40,
    dirty=False,
    bundle="b" * 64,
    machine=HERE,
    threads=2,
    settings={"prompt": "1070"},
    samples=(30, 10, 20),
    stats=stats((30, 10, 20)),
)


def test_statistics_are_of_the_samples() -> None:
    found = stats([40, 10, 30, 20, 50])
    assert (found.low, found.p25, found.median, found.p75, found.high) == (10, 20, 30, 40, 50)
    assert found.spread == pytest.approx(20 / 30)


def test_a_factor_is_of_medians_and_its_range_of_rounds() -> None:
    found = against([10, 20, 30], [40, 20, 90], side="other", goal=2.0)
    assert found.factor == pytest.approx(40 / 20)
    assert (found.low, found.high) == (1.0, 4.0)
    assert found.samples == (40, 20, 90) and found.goal == 2.0


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    failed = msgspec.structs.replace(ROW, side="llama.cpp", samples=(), stats=None, error="no npm | here")
    put_rows(path, [ROW, failed])
    assert read_rows(path) == [ROW, failed]
    assert len(path.read_bytes().splitlines()) == 2


def test_a_row_takes_the_place_of_the_same_measurement_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    other = msgspec.structs.replace(ROW, settings={"prompt": "10"})
    beside = msgspec.structs.replace(ROW, against=against([1], [2], side="llama.cpp"))
    put_rows(path, [ROW, other, beside])
    again = msgspec.structs.replace(ROW, samples=(1, 2, 3), stats=stats((1, 2, 3)))
    put_rows(path, [again])
    assert read_rows(path) == [again, other, beside]
    elsewhere = msgspec.structs.replace(ROW, bundle="d" * 64)
    put_rows(path, [elsewhere])
    assert len(read_rows(path)) == 4


@pytest.mark.parametrize("line", [b"{}", b"nonsense", b'{"schema":2}'])
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    put_rows(path, [ROW])
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(IntegrityError, match="line 2"):
        read_rows(path)


def test_ticks_are_read_and_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 ticks pass: 30 ours, 20 of others, 10 stolen, the rest idle or waiting. Guests are users."""
    machine_times = namedtuple("T", "user nice system idle iowait irq softirq steal guest guest_nice")
    process_times = namedtuple("P", "user system children_user children_system iowait")
    held = {7: process_times(0.10, 0.05, 0.01, 0.01, 9.0)}
    monkeypatch.setattr(psutil, "cpu_times", lambda: machine_times(1.0, 0, 0.5, 8.0, 0.5, 0, 0, 0, 0.25, 0))
    monkeypatch.setattr(psutil, "Process", lambda pid: SimpleNamespace(cpu_times=lambda: held[pid]))
    before = Ticks.read([7])
    held = {7: process_times(0.30, 0.10, 0.03, 0.04, 9.0)}
    monkeypatch.setattr(psutil, "cpu_times", lambda: machine_times(1.4, 0, 0.6, 8.3, 0.6, 0, 0, 0.1, 0.4, 0))
    after = Ticks.read([7])
    assert before == Ticks(total=1000, busy=150, stolen=0, own=17)
    assert after == Ticks(total=1100, busy=210, stolen=10, own=47)
    watch = Watch(average_before=0.5)
    watch.note(before, after)
    load = watch.load()
    assert load is not None
    assert (load.others_mean, load.others_worst, load.stolen) == (0.3, 0.3, 0.1)  # stolen time is others'
    assert not load.idle and load.average_before == 0.5


def test_an_idle_machine_is_called_idle() -> None:
    watch = Watch(average_before=0.0)
    for _ in range(3):
        watch.note(Ticks(0, 0, 0, 0), Ticks(100, 52, 0, 50))
    load = watch.load()
    assert load is not None and load.idle and load.others_mean == pytest.approx(0.02)


def test_a_process_that_is_gone_has_no_ticks() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert Ticks.read([child.pid]).own == 0


def test_own_work_is_own() -> None:
    before, ends = Ticks.read([os.getpid()]), time.process_time() + 0.3
    while time.process_time() < ends:
        pass
    after = Ticks.read([os.getpid()])
    assert after.own - before.own >= 25 and after.total > before.total and after.busy > before.busy


@pytest.mark.parametrize(("used", "refused"), [(3, False), (40, True)])
def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch, used: int, refused: bool) -> None:
    readings = iter([Ticks(0, 0, 0, 0), Ticks(200, 2 * used, 0, 0)])
    monkeypatch.setattr(machine.Ticks, "read", lambda pids: next(readings))
    if not refused:
        require_idle(seconds=0)
        return
    with pytest.raises(EnvironmentProblem, match=r"40%.*--busy"):
        require_idle(seconds=0)


def test_reading_memory_is_timed() -> None:
    samples, size = read_bandwidth(2, size=1 << 20, rounds=3)
    assert len(samples) == 3 and min(samples) > 0 and size == 2 << 20


def test_the_machine_is_described() -> None:
    here = this_machine(read_bytes_per_s=None)
    assert here.cores >= 1 and here.python and here.system
    assert msgspec.json.decode(msgspec.json.encode(here), type=Machine) == here


def test_a_row_says_what_engines_see_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAM_EDGE_CPU_KIND", "x86-64: avx2")
    assert "engines see x86-64: avx2" in (this_machine(read_bytes_per_s=None).cpu or "")
    monkeypatch.delenv("PAM_EDGE_CPU_KIND")
    assert "engines see" not in (this_machine(read_bytes_per_s=None).cpu or "")
