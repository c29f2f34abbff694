"""A phone on adb: files are pushed once, a runner of its own answers over `adb shell`.

A phone has no Python: `--runner` is a folder with everything the runner needs there and an executable script
`run` that starts it (`arm64.py` makes one for Linux programs on 64-bit ARM). Everything lies below
`/data/local/tmp/pam-edge`, by sha256, and is checked there after it came.
"""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pam_edge.benchmarks.devices.local import Choice, Device, Tell
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.bundle.bundle import Bundle, file_ref, sha256_of
from pam_edge.bundle.manifest import MANIFEST
from pam_edge.core.errors import DeviceError, EnvironmentProblem, UsageError

ROOT = "/data/local/tmp/pam-edge"
_SPARE = 64 << 20  # bytes left free on the device
_SECONDS = 3600  # for one file


@dataclass(frozen=True)
class Link:
    """Which phone, and what runs there."""

    name: str  # as rows call it
    serial: str | None  # None: the only one there is
    runner: Path
    root: str = ROOT

    def command(self, *words: str) -> list[str]:
        """adb's words for this phone."""
        return ["adb", *([] if self.serial is None else ["-s", self.serial]), *words]


class Adb:
    """The device."""

    def __init__(self, link: Link, *, logs: Path, tell: Callable[[str], None]) -> None:
        """Raises EnvironmentProblem without adb, UsageError where the runner's folder has no `run`."""
        if shutil.which("adb") is None:
            raise EnvironmentProblem("adb is not on this machine: install Android's platform tools")
        if not (link.runner / "run").is_file():
            raise UsageError(f"--runner {link.runner}: a folder with a script `run` is needed")
        self.name = link.name
        self._link, self._logs, self._tell = link, logs, tell
        self._count = 0
        self._runner: str | None = None
        self._folders: dict[str, str] = {}

    def prepare(self, bundle: Bundle) -> str:
        """Push what is missing of a bundle; its folder there."""
        sha = bundle.manifest.sha256
        if sha not in self._folders:
            manifest = file_ref(bundle.folder / MANIFEST)
            files = {ref.path: (ref.sha256, bundle.path(ref)) for ref in bundle.manifest.files().values()}
            files[MANIFEST] = (manifest.sha256, bundle.folder / MANIFEST)
            self._push(dict(files.values()), what=f"{bundle.manifest.variant.name} bundle")
            folder = f"{self._link.root}/bundles-{sha}"
            making = shlex.quote(f"{folder}.making")
            lines = [f"test -d {shlex.quote(folder)} && exit 0", f"rm -rf {making}", f"mkdir -p {making}"]
            for name, (digest, _) in files.items():
                stored, placed = f"{self._link.root}/store/{digest}", f"{making}/{shlex.quote(name)}"
                lines.append(f"ln {stored} {placed} 2>/dev/null || cp {stored} {placed}")
            self._shell("; ".join([*lines, f"mv {making} {shlex.quote(folder)}"]))
            self._folders[sha] = folder
        return self._folders[sha]

    def start(self) -> Worker:
        """A runner there."""
        if self._runner is None:
            self._runner = self._lay_runner()
        self._count += 1
        log = self._logs / f"runner-{self._count}.txt"
        command = self._link.command("shell", "-T", f"exec sh {shlex.quote(self._runner)}/run")
        return Worker(self.name, command, log=log, lost=DeviceError)

    def _lay_runner(self) -> str:
        """Push the runner as one archive and unpack it there."""
        archive = self._logs / "runner.tar"
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.write_bytes(packed(self._link.runner))
        sha = sha256_of(archive)
        self._push({sha: archive}, what="runner")
        folder, stored = f"{self._link.root}/runner-{sha[:16]}", f"{self._link.root}/store/{sha}"
        making = f"{folder}.making"
        self._shell(
            f"test -d {folder} && exit 0; rm -rf {making}; mkdir -p {making} && "
            f"tar -xf {stored} -C {making} && mv {making} {folder}"
        )
        return folder

    def _push(self, files: Mapping[str, Path], *, what: str) -> None:
        """Push what is not there yet; a file counts as there once its sha256 was right there."""
        store = f"{self._link.root}/store"
        held = self._shell(f"mkdir -p {store} && ls {store}").split()
        missing = {sha: path for sha, path in files.items() if sha not in held}
        if not missing:
            return
        rest = sum(path.stat().st_size for path in missing.values())
        free = free_bytes(self._shell(f"df -k {self._link.root}"))
        if free is not None and rest + _SPARE > free:
            raise DeviceError(
                f"{self.name}: no space there: {what} needs {rest / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
            )
        self._tell(f"{self.name}: sending {what}, {rest / 1e6:.1f} MB")
        for sha, path in missing.items():
            part = f"{store}/{sha}.part"
            self._run(["push", str(path), part])
            if self._shell(f"sha256sum {part}").split()[:1] != [sha]:
                self._shell(f"rm -f {part}")
                raise DeviceError(f"{self.name}: {path.name} came out damaged (sha256 differs); try again")
            self._shell(f"mv {part} {store}/{sha}")

    def _shell(self, command: str) -> str:
        return self._run(["shell", "-T", command])

    def _run(self, words: list[str]) -> str:
        """What an adb command prints. Raises DeviceError where it fails."""
        try:
            done = subprocess.run(
                self._link.command(*words), capture_output=True, text=True, timeout=_SECONDS, check=False,
                stdin=subprocess.DEVNULL, errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired as e:
            raise DeviceError(f"{self.name}: adb {words[0]} did not end within {_SECONDS} s") from e
        if done.returncode != 0:
            said = " ".join((done.stderr + done.stdout).split())[-300:]
            raise DeviceError(f"{self.name}: {meaning(said)} (adb {words[0]}: {said})")
        return done.stdout


def meaning(words: str) -> str:
    """What a person can do about adb's last words."""
    for mark, told in (
        ("unauthorized", "not authorized: confirm this computer on the phone's screen"),
        ("offline", "the phone is offline: unlock it, plug it in again"),
        ("more than one", "several phones: write adb:SERIAL, see `adb devices`"),
        ("no devices", "no phone: plug one in with USB debugging on"),
        ("not found", "no such phone: see `adb devices`"),
        ("No space left", "no space left there: free some and run this again"),
    ):
        if mark in words:
            return told
    return "the phone refused, or went away"


def free_bytes(df: str) -> int | None:
    """What `df -k` says is available; None where it says something else."""
    match = re.search(r"\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%", df)
    return None if match is None else int(match[3]) * 1024


def packed(folder: Path) -> bytes:
    """A folder as an archive, the same bytes each time; links stay links."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            entry = archive.gettarinfo(path, path.relative_to(folder).as_posix())
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
            if entry.isreg():
                with path.open("rb") as f:
                    archive.addfile(entry, f)
            else:
                archive.addfile(entry)
    return raw.getvalue()


def opened(address: str, choice: Choice, logs: Path, tell: Tell) -> Device:
    """See `Kind.opened`. Raises UsageError without a runner's folder, and like `Adb`."""
    if choice.runner is None:
        raise UsageError("a phone needs --runner: a folder that `arm64.py` made, see docs/devices.md")
    link = Link(choice.name or choice.device, address or None, choice.runner, choice.remote or ROOT)
    return Adb(link, logs=logs, tell=tell)
