"""`--device ssh:...` against a real sshd on loopback: copying, resuming, measuring, and every way to lose it.

Needs Debian's openssh-server; without it these tests are skipped.
"""

from __future__ import annotations

import getpass
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from command import pam_edge

from pam_edge.benchmarks.devices.pack import Platform, own_wheel
from pam_edge.benchmarks.devices.ssh import Agent, Ssh, Way
from pam_edge.benchmarks.harness.rows import Row, read_rows
from pam_edge.benchmarks.speed.bench import measure
from pam_edge.benchmarks.speed.plan import Axes, Plan, grid
from pam_edge.benchmarks.speed.requests import AskMachine, AskState
from pam_edge.bundle.builtin import BUNDLE
from pam_edge.bundle.bundle import Bundle, sha256_of
from pam_edge.core.errors import DeviceError

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)
pytestmark = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None, reason="needs sshd and ssh: apt-get install openssh-server"
)


@dataclass
class Server:
    """A running sshd."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def way(self) -> Way:
        """To it, with the Python and the packages of this test."""
        return Way(
            target="here",
            name="there",
            python=sys.executable,
            environment="own",
            config=self.folder / "config",
            root=str(self.folder / "root"),
        )

    def device(self, tell: Any = lambda text: None, **changed: Any) -> Ssh:
        """A device over it."""
        way = replace(self.way, **changed)
        return Ssh(way, logs=self.folder / "logs", cache=self.folder / "cache", tell=tell)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    for name in ("host", "key", "stranger"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(command, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd of root insists on it
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\n"
        f"AuthorizedKeysFile {tmp_path}/key.pub\nStrictModes no\nUsePAM no\nPidFile none\n"
        "PasswordAuthentication no\n"
    )
    login = (
        f"HostName 127.0.0.1\nPort {port}\nUser {getpass.getuser()}\nIdentitiesOnly yes\nLogLevel ERROR\n"
        "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nIdentityAgent none\n"
    )
    (tmp_path / "config").write_text(
        f"Host here\n{login}IdentityFile {tmp_path}/key\n"
        f"Host stranger\n{login}IdentityFile {tmp_path}/stranger\n"
    )
    command = [str(SSHD), "-D", "-f", str(tmp_path / "sshd_config"), "-E", str(tmp_path / "sshd.log")]
    process = subprocess.Popen(command)
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        with socket.socket() as knock:
            if knock.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    running = Server(tmp_path, process)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def nano() -> Bundle:
    return Bundle.open(BUNDLE, check=False)


def test_nano_is_measured_over_ssh_and_rows_come_back(server: Server, tmp_path: Path) -> None:
    words = ["bench", "nano", "--device", "ssh:here", "--name", "orin", "--ssh-config", tmp_path / "config"]
    words += ["--python", sys.executable, "--env", "own", "--remote", tmp_path / "root", "--task", "decode"]
    out = tmp_path / "rows.jsonl"
    result = pam_edge(*words, "--prompt", "8", "--tokens", "2", "-r", "2", "-o", "jsonl", "--out", out)
    assert result.code == 0, result.err
    rows = {row.measure: row for row in read_rows(out)}
    assert len(rows["decode"].samples) == 2 and rows["decode"].machine.device == "orin"
    assert rows["decode"].versions["onnxruntime"] and rows["decode"].before is not None
    there = next((tmp_path / "root").glob("bundles-*"))
    assert {path.name for path in there.iterdir()} == {*Bundle.open(BUNDLE).manifest.files(), "bundle.json"}
    assert Bundle.open(there).manifest.sha256 == Bundle.open(BUNDLE).manifest.sha256


def test_a_copy_that_was_cut_off_goes_on_and_nothing_is_sent_twice(server: Server, nano: Bundle) -> None:
    store, said = server.folder / "root" / "store", list[str]()
    store.mkdir(parents=True)
    ref = max(nano.manifest.files().values(), key=lambda ref: ref.bytes)
    (store / f"{ref.sha256}.part").write_bytes(nano.path(ref).read_bytes()[:1_000_000])
    folder = server.device(said.append).prepare(nano)
    assert Bundle.open(folder).manifest == nano.manifest
    sent = float(said[0].split(", ")[1].split()[0])
    whole = (nano.total_bytes + (nano.folder / "bundle.json").stat().st_size) / 1e6
    assert sent == pytest.approx(whole - 1.0, abs=0.06)
    assert server.device(said.append).prepare(nano) == folder and len(said) == 1


def test_what_was_spoiled_on_the_way_is_found_and_sent_anew(server: Server, nano: Bundle) -> None:
    store = server.folder / "root" / "store"
    store.mkdir(parents=True)
    ref = max(nano.manifest.files().values(), key=lambda ref: ref.bytes)
    (store / f"{ref.sha256}.part").write_bytes(bytes(1_000_000))
    with pytest.raises(DeviceError, match="sha256 differs"):
        server.device().prepare(nano)
    assert not list(server.folder.glob("root/bundles-*"))  # nothing half there
    Bundle.open(server.device().prepare(nano))


def test_a_machine_that_goes_away_in_a_turn_is_a_device_error(server: Server) -> None:
    worker = server.device().start()
    with worker:
        assert worker.ask(AskMachine()).cores >= 1
        os.kill(worker.pid, 9)
        with pytest.raises(DeviceError, match="there: "):
            worker.ask(AskState())


def test_a_machine_that_goes_away_between_places_loses_nothing(server: Server, nano: Bundle) -> None:
    rows: list[Row] = []

    def sink(found: list[Row]) -> None:
        rows.extend(found)
        if any(row.measure == "total" and row.stats for row in found):
            server.stop()

    axes = Axes(prompt=(8, 16, 24), tokens=(2,))
    plan = Plan(grid((nano,), ("decode",), axes, interleave=False), repeat=1, warmup=0)
    problems = measure(plan, server.device(), sink, lambda text: None)
    assert [type(problem) for problem in problems] == [DeviceError]
    totals = {row.settings["prompt"]: row for row in rows if row.measure == "total"}
    assert totals["8"].stats is not None and "Connection refused" in totals["16"].error
    assert totals["24"].error.startswith("not measured: ")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"target": "stranger"}, "not authorized"),
        ({"python": "python0"}, "name its Python with --python"),
        ({"target": "nowhere.invalid"}, "no such host"),
    ],
)
def test_what_keeps_a_machine_away_is_said(server: Server, changed: dict[str, str], said: str) -> None:
    with pytest.raises(DeviceError, match=said), Agent(replace(server.way, **changed)) as agent:
        agent.ask("hello")


def test_a_full_machine_is_known_before_anything_is_sent(
    server: Server, nano: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(self: Agent, what: str, raw: bytes = b"", **given: Any) -> Any:
        asked.append(what)
        return {"free": 70_000_000} if what == "hello" else dict.fromkeys(given["files"], 0)

    monkeypatch.setattr(Agent, "ask", ask)
    with pytest.raises(DeviceError, match=r"no space there: nano bundle needs 8 MB more, 70 MB are free"):
        server.device().prepare(nano)
    assert asked == ["have", "hello"]


def test_names_lead_nowhere_else(server: Server) -> None:
    with Agent(server.way) as agent:
        for folder in ("../out", "/tmp/out"):
            with pytest.raises(DeviceError, match="a place outside"):
                agent.ask("lay", folder=folder, files={})


def test_our_wheel_is_the_same_bytes_each_time_and_holds_no_torch_side(tmp_path: Path) -> None:
    first, second = own_wheel(tmp_path / "a"), own_wheel(tmp_path / "b")
    assert sha256_of(first) == sha256_of(second)
    with zipfile.ZipFile(io.BytesIO(first.read_bytes())) as wheel:
        names = wheel.namelist()
    assert {
        "pam_edge/pipeline/pam.py",
        "pam_edge/benchmarks/speed/runner.py",
        "pam_edge/runtimes/onnxruntime/session.py",
    } <= {*names}
    assert not [name for name in names if "/export/" in name or "/quantize/" in name or "/nano/" in name]
    assert not [
        name
        for name in names
        if name.startswith(("pam_edge/benchmarks/competitors/", "pam_edge/benchmarks/report/"))
    ]


def test_a_device_s_python_chooses_its_packages() -> None:
    jetson = Platform((3, 10), "aarch64", "2.35")
    assert jetson.lock["onnxruntime"] == "1.23.2" and len(jetson.lock) == 6
    assert jetson.tags[0] == "manylinux_2_35_aarch64" and jetson.tags[-1] == "manylinux2014_aarch64"
    with pytest.raises(DeviceError, match=r"Python 3\.8"):
        _ = Platform((3, 8), "aarch64", "2.31").lock
