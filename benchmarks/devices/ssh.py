"""A machine that ssh reaches, a Jetson say: files go there once, the runner talks over the connection.

Needs there: sshd, a login without a password prompt, and Python 3.10 or newer. Everything lies in one folder,
`~/.cache/pam-edge`; files are known by their sha256, so that a copy that was cut off goes on.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pam_edge.benchmarks.devices import agent
from pam_edge.benchmarks.devices.local import RUNNER, Choice, Device, Tell
from pam_edge.benchmarks.devices.pack import Platform, fetched_wheels, own_wheel
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.bundle.bundle import Bundle, file_ref, sha256_of
from pam_edge.bundle.manifest import MANIFEST
from pam_edge.core.errors import DeviceError, UsageError

Environment = Literal["fetched", "own"]
ROOT = "~/.cache/pam-edge"
BLOCK = 4 << 20
_SPARE = 64 << 20  # bytes left free on the device
_OPTIONS = (
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=15"),
    *("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"),
)
_START = "import sys; exec(sys.stdin.buffer.read({size}).decode())"


@dataclass(frozen=True)
class Way:
    """How a machine is reached, and what is used there."""

    target: str  # user@host, or a name of the ssh configuration
    name: str  # as rows call it
    python: str = "python3"
    environment: Environment = "fetched"
    config: Path | None = None  # another ssh configuration
    root: str = ROOT

    def command(self, remote: str) -> list[str]:
        """ssh's words for a command over there."""
        own = [] if self.config is None else ["-F", str(self.config)]
        return ["ssh", *own, *_OPTIONS, self.target, remote]


class Agent:
    """A connection to `agent.py` over there. Close it, or use it as a context manager."""

    def __init__(self, way: Way) -> None:
        """Raises DeviceError where the machine cannot be reached or has no such Python."""
        self._way = way
        source = Path(agent.__file__).read_bytes()
        start = shlex.join([*shlex.split(way.python), "-c", _START.format(size=len(source)), way.root])
        try:
            self._process = subprocess.Popen(
                way.command(start), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as e:
            raise DeviceError(f"{way.name}: ssh cannot be started: {e}") from e
        self._write(source)

    def ask(self, what: str, raw: bytes = b"", **given: Any) -> Any:
        """Have one request carried out. Raises DeviceError where it fails or the machine goes away."""
        self._write(json.dumps({"do": what, **given}).encode() + b"\n" + raw)
        assert self._process.stdout is not None  # asked for in __init__
        line = self._process.stdout.readline()
        if not line:
            raise self._gone()
        told: dict[str, Any] = json.loads(line)
        result = told.get("result", told)
        if "error" in result:
            if result.get("errno") == errno.ENOSPC:
                raise DeviceError(f"{self._way.name}: no space left there; free some and run this again")
            raise DeviceError(f"{self._way.name}: {result['error']}")
        return result

    def close(self) -> None:
        """End the connection."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # it is gone already
                    continue
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, raw: bytes) -> None:
        assert self._process.stdin is not None  # asked for in __init__
        try:
            self._process.stdin.write(raw)
            self._process.stdin.flush()
        except OSError as e:
            raise self._gone() from e

    def _gone(self) -> DeviceError:
        assert self._process.stderr is not None  # asked for in __init__
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        words = self._process.stderr.read().decode(errors="replace").strip()[-400:]
        return DeviceError(f"{self._way.name}: {_meaning(words)} (ssh ended with {code}: {words})")


def _meaning(words: str) -> str:
    """What a person can do about ssh's last words."""
    for mark, told in (
        ("Permission denied", "not authorized: set up a key, `ssh-copy-id`"),
        ("Host key verification failed", "the host's key is unknown or changed: log in by hand once"),
        ("Could not resolve", "no such host"),
        ("Connection refused", "nobody answers there: is sshd running?"),
        ("timed out", "it does not answer"),
        ("not found", "that command is not there: name its Python with --python"),
        ("No space left", "no space left there"),
    ):
        if mark in words:
            return told
    return "the connection ended"


class Ssh:
    """The device."""

    def __init__(self, way: Way, *, logs: Path, cache: Path, tell: Callable[[str], None]) -> None:
        """`cache` is a folder here for wheels that were fetched. Connects when it is first needed."""
        self.name = way.name
        self._way, self._logs, self._cache, self._tell = way, logs, cache, tell
        self._count = 0
        self._environment: str | None = None
        self._folders: dict[str, str] = {}

    def prepare(self, bundle: Bundle) -> str:
        """Copy what is missing of a bundle; its folder there."""
        sha = bundle.manifest.sha256
        if sha not in self._folders:
            files = {ref.path: (ref.sha256, bundle.path(ref)) for ref in bundle.manifest.files().values()}
            manifest = file_ref(bundle.folder / MANIFEST)
            files[MANIFEST] = (manifest.sha256, bundle.folder / MANIFEST)
            with Agent(self._way) as agent:
                self._send(agent, dict(files.values()), what=f"{bundle.manifest.variant.name} bundle")
                names = {name: digest for name, (digest, _) in files.items()}
                self._folders[sha] = agent.ask("lay", folder=f"bundles-{sha}", files=names)["path"]
        return self._folders[sha]

    def start(self) -> Worker:
        """A runner there."""
        if self._environment is None:
            self._environment = self._lay_environment()
        self._count += 1
        command = f"PYTHONPATH={shlex.quote(self._environment)} exec {self._way.python} -m {RUNNER}"
        log = self._logs / f"runner-{self._count}.txt"
        return Worker(self.name, self._way.command(command), log=log, lost=DeviceError)

    def _lay_environment(self) -> str:
        """The folder there that holds our package and, unless its own are used, the packages it needs."""
        with Agent(self._way) as agent:
            hello = agent.ask("hello")
            wheels = [own_wheel(self._cache / "own")]
            if self._way.environment == "fetched":
                if hello["system"] != "Linux":
                    raise DeviceError(
                        f"{self.name}: no packages are known for {hello['system']}; install them there and "
                        "give --env own"
                    )
                python = (hello["python"][0], hello["python"][1])
                self._tell(f"{self.name}: {hello['machine']}, Python {python[0]}.{python[1]}")
                wheels += fetched_wheels(Platform(python, hello["machine"], hello["libc"]), self._cache)
            shas = {sha256_of(wheel): wheel for wheel in wheels}
            self._send(agent, shas, what="environment")
            folder = f"env-{sha256_of_all(shas)}"
            path: str = agent.ask("unpack", folder=folder, wheels=list(shas))["path"]
            return path

    def _send(self, agent: Agent, files: Mapping[str, Path], *, what: str) -> None:
        """Send what is not there yet, each from where an earlier try stopped."""
        held: dict[str, int] = agent.ask("have", files=list(files))
        missing = {sha: path for sha, path in files.items() if held[sha] >= 0}
        rest = sum(path.stat().st_size - held[sha] for sha, path in missing.items())
        if not missing:
            return
        free = agent.ask("hello")["free"]
        if rest + _SPARE > free:
            raise DeviceError(
                f"{self.name}: no space there: {what} needs {rest / 1e6:.0f} MB more, "
                f"{free / 1e6:.0f} MB are free"
            )
        self._tell(f"{self.name}: sending {what}, {rest / 1e6:.1f} MB")
        for sha, path in missing.items():
            _send_file(agent, sha, path, offset=held[sha])


def _send_file(agent: Agent, sha: str, path: Path, *, offset: int) -> None:
    size = path.stat().st_size
    offset = min(offset, size)
    with path.open("rb") as f:
        f.seek(offset)
        while True:
            raw = f.read(BLOCK)
            agent.ask("put", raw, sha=sha, offset=offset, bytes=len(raw), size=size)
            offset += len(raw)
            if offset >= size:
                return


def sha256_of_all(shas: Sequence[str] | Mapping[str, Path]) -> str:
    """One name for a set of files."""
    return hashlib.sha256("".join(sorted(shas)).encode()).hexdigest()[:16]


def opened(address: str, choice: Choice, logs: Path, tell: Tell) -> Device:
    """See `Kind.opened`. Raises UsageError for an unknown environment."""
    way = Way(
        target=address,
        name=choice.name or choice.device,
        python=choice.python,
        environment=_environment(choice.environment),
        config=choice.ssh_config,
        root=choice.remote or ROOT,
    )
    return Ssh(way, logs=logs, cache=Path.home() / ".cache" / "pam-edge", tell=tell)


def _environment(text: str) -> Environment:
    match text:
        case "fetched" | "own":
            return text
        case _:
            raise UsageError(f"--env {text!r} is unknown; write fetched or own")
