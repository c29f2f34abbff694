"""`--device adb` through the real adb client against a fake phone on loopback: pushing, measuring, losing it.

Needs Debian's adb; without it these tests are skipped. No phone was ever at hand: what one says of itself is
recorded text, and no time here is a phone's.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import pam_edge, refused
from fake_phone import FakePhone
from test_device_words import BATTERY, XIAOMI

from pam_edge.benchmarks.devices.adb import Adb, Link, free_bytes, meaning, packed
from pam_edge.benchmarks.harness.rows import Row, read_rows
from pam_edge.benchmarks.speed.bench import measure
from pam_edge.benchmarks.speed.plan import Axes, Plan, grid
from pam_edge.bundle.builtin import BUNDLE
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import DeviceError

needs_adb = pytest.mark.skipif(shutil.which("adb") is None, reason="needs adb: apt-get install adb")
Plug = Callable[[FakePhone], str]


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plug]:
    """An adb server of this test's own, and how to plug a phone into it; gives the serial."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", port)
    monkeypatch.setenv("HOME", str(tmp_path))  # where adb keeps its key

    def connect(phone: FakePhone) -> str:
        serial = f"127.0.0.1:{phone.port}"
        subprocess.run(["adb", "connect", serial], check=False, capture_output=True, timeout=30)
        wanted = "device" if phone.authorized else "unauthorized"
        ends = time.monotonic() + 10
        while time.monotonic() < ends:
            listed = subprocess.run(["adb", "devices"], check=True, capture_output=True, text=True).stdout
            if f"{serial}\t{wanted}" in listed:
                break
            time.sleep(0.05)
        return serial

    yield connect
    subprocess.run(["adb", "kill-server"], check=False, capture_output=True, timeout=30)


@pytest.fixture
def runner(tmp_path: Path) -> Path:
    """What runs on the fake phone: this machine's Python."""
    folder = tmp_path / "runner"
    folder.mkdir()
    paths = os.pathsep.join(path for path in sys.path if path)
    (folder / "run").write_text(
        f"PYTHONPATH='{paths}' exec {sys.executable} -m pam_edge.benchmarks.speed.runner\n"
    )
    return folder


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[FakePhone]:
    found = FakePhone(tmp_path / "phone")
    yield found
    found.unplug()


@pytest.fixture(scope="module")
def nano() -> Bundle:
    return Bundle.open(BUNDLE, check=False)


def device(serial: str, runner: Path, tmp_path: Path) -> Adb:
    root = str(tmp_path / "phone" / "store")
    return Adb(Link("pixel", serial, runner, root), logs=tmp_path / "logs", tell=lambda text: None)


@needs_adb
def test_nano_is_measured_on_a_phone_and_its_state_comes_back(
    phone: FakePhone, plug: Plug, runner: Path, tmp_path: Path
) -> None:
    phone.say("dumpsys", f"{BATTERY['AOSP, discharging'][0]}{XIAOMI}")
    serial, out = plug(phone), tmp_path / "rows.jsonl"
    words = ["bench", "nano", "--device", f"adb:{serial}", "--name", "pixel", "--runner", runner]
    words += ["--remote", phone.root / "store"]
    words += ["--task", "decode", "--prompt", "8", "--tokens", "2", "-r", "2", "--warmup", "0", "-o", "jsonl"]
    result = pam_edge(*words, "--out", out)
    assert result.code == 0, result.err
    rows = {row.measure: row for row in read_rows(out)}
    decode = rows["decode"]
    assert len(decode.samples) == 2 and decode.machine.device == "pixel" and decode.before is not None
    assert (decode.before.battery, decode.before.charging) == (0.67, False)
    assert decode.before.throttling == "severe" and decode.before.temperatures_c["skin"] == 37.2
    (there,) = phone.root.glob("store/bundles-*")
    assert Bundle.open(there).manifest.sha256 == Bundle.open(BUNDLE).manifest.sha256


@needs_adb
def test_nothing_is_pushed_twice_and_what_was_spoiled_is_found(
    phone: FakePhone, plug: Plug, runner: Path, tmp_path: Path, nano: Bundle
) -> None:
    serial = plug(phone)
    there = device(serial, runner, tmp_path).prepare(nano)
    before = len(phone.commands)
    assert device(serial, runner, tmp_path).prepare(nano) == there
    assert not any("sha256sum" in command for command in phone.commands[before:])
    shutil.rmtree(phone.root / "store")
    phone.say("sha256sum", "0000")
    with pytest.raises(DeviceError, match="damaged"):
        device(serial, runner, tmp_path).prepare(nano)
    assert not list(phone.root.glob("store/store/*"))


@needs_adb
def test_a_phone_that_is_unplugged_keeps_its_rows(
    phone: FakePhone, plug: Plug, runner: Path, tmp_path: Path, nano: Bundle
) -> None:
    rows: list[Row] = []

    def sink(found: list[Row]) -> None:
        rows.extend(found)
        if any(row.measure == "total" and row.stats for row in found):
            phone.unplug()

    axes = Axes(prompt=(8, 16), tokens=(2,))
    plan = Plan(grid((nano,), ("decode",), axes, interleave=False), repeat=1, warmup=0)
    problems = measure(plan, device(plug(phone), runner, tmp_path), sink, lambda text: None)
    assert [type(problem) for problem in problems] == [DeviceError]
    totals = {row.settings["prompt"]: row for row in rows if row.measure == "total"}
    assert totals["8"].stats is not None and totals["16"].stats is None and totals["16"].error


@needs_adb
def test_a_full_phone_an_unauthorized_one_and_none(
    phone: FakePhone, plug: Plug, runner: Path, tmp_path: Path, nano: Bundle
) -> None:
    phone.say(
        "df", "Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/block/dm-8 1 1 60000 99% /data"
    )
    with pytest.raises(DeviceError, match="no space there: nano bundle needs 8 MB, 61 MB are free"):
        device(plug(phone), runner, tmp_path).prepare(nano)
    strange = FakePhone(tmp_path / "strange", authorized=False)
    try:
        with pytest.raises(DeviceError, match="confirm this computer on the phone"):
            device(plug(strange), runner, tmp_path).prepare(nano)
    finally:
        strange.unplug()
    with pytest.raises(DeviceError, match="no such phone"):
        device("nowhere", runner, tmp_path).prepare(nano)


def test_adb_s_words_mean_something() -> None:
    assert "no phone" in meaning("adb: no devices/emulators found")
    assert "adb:SERIAL" in meaning("error: more than one device/emulator")
    assert "unlock" in meaning("error: device offline")
    assert "went away" in meaning("error: closed")
    assert (
        free_bytes("Filesystem 1K-blocks Used Available Use% Mounted\n/dev/x 100 40 60 40% /data\n") == 61440
    )
    assert free_bytes("df: nothing\n") is None


def test_a_runner_is_the_same_archive_each_time(runner: Path) -> None:
    first = packed(runner)
    (runner / "run").touch()
    assert packed(runner) == first and b"pam_edge.benchmarks.speed.runner" in first


def test_a_phone_needs_a_runner(tmp_path: Path) -> None:
    refused(pam_edge("bench", "nano", "--device", "adb"), 2, "--runner")
    if shutil.which("adb"):
        words = ["--device", "adb:x", "--runner", tmp_path]
        refused(pam_edge("bench", "nano", *words), 2, "a script `run`")
