"""What a device needs to run ours: this package as a wheel, and the wheels of a locked environment.

A wheel is a zip: unpacked into a folder on PYTHONPATH it is installed, so that a device needs neither pip nor
a network. The locks (`locks/`, one a Python, with hashes) are short: the run side alone. Wheels come from the
package index through pip, on this side, for the device's processor and Python.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import pam_edge.benchmarks
import pam_edge.runtimes
from pam_edge.core.errors import DeviceError, EnvironmentProblem

LOCKS = Path(__file__).parent / "locks"  # written by tools/lock.py
_OLDER = LOCKS / "older.txt"  # other releases of an engine that some devices need
_LOCKED = re.compile(r"^([a-z0-9-]+)==(\S+) \\\n((?: +--hash=\S+(?: \\)?\n)+)", re.MULTILINE)
# What no device runs; nano's files travel as a bundle.
_LEFT = ("nano", "export", "quantize", "benchmarks", "runtimes"), ("competitors", "report", "results"), ()
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same package is the same bytes


@dataclass(frozen=True)
class Platform:
    """A device's Python and processor."""

    python: tuple[int, int]
    machine: str  # as `uname -m` says
    libc: str  # glibc's version

    @property
    def tags(self) -> tuple[str, ...]:
        """Platform tags of wheels that run there, newest first (PEP 600)."""
        minor = int(self.libc.split(".")[1]) if self.libc.count(".") else 17
        found = [f"manylinux_2_{n}_{self.machine}" for n in range(minor, 16, -1)]
        return (*found, f"manylinux2014_{self.machine}")

    @property
    def lock(self) -> dict[str, str]:
        """Packages and their versions. Raises DeviceError where this Python has none."""
        return dict(locked(self.lock_file).keys())

    @property
    def lock_file(self) -> Path:
        """Where they are written with their hashes. Raises DeviceError where this Python has none."""
        path = LOCKS / f"{self.python[0]}.{self.python[1]}.txt"
        if not path.is_file():
            versions = ", ".join(path.stem for path in sorted(LOCKS.glob("3.*.txt")))
            raise DeviceError(
                f"the device has Python {self.python[0]}.{self.python[1]}; known are {versions}: "
                "name another with --python"
            )
        return path


def locked(path: Path) -> dict[tuple[str, str], str]:
    """The lines of a lock by package and version: each with its hashes, as pip takes it."""
    found = _LOCKED.finditer(path.read_text(encoding="utf-8"))
    return {(match[1], match[2]): match[0] for match in found}


def own_wheel(folder: Path) -> Path:
    """This package as a wheel in `folder`: the run side and what measures, installed or checked out."""
    try:
        version = distribution("pam-edge").version
    except PackageNotFoundError:
        version = "0"
    info = f"pam_edge-{version}.dist-info"
    files = _sources()
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f"pam_edge-{version}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, path in sorted(files.items()):
            _add(wheel, name, path.read_bytes())
        _add(
            wheel, f"{info}/METADATA", f"Metadata-Version: 2.1\nName: pam-edge\nVersion: {version}\n".encode()
        )
        _add(wheel, f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: pam-edge\nTag: py3-none-any\n")
        names = [*sorted(files), f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"]
        _add(wheel, f"{info}/RECORD", "".join(f"{name},,\n" for name in names).encode())
    return made


def fetched_wheels(
    platform: Platform, cache: Path, *, versions: Mapping[str, str] | None = None
) -> list[Path]:
    """Wheels of the lock for a device, from `cache` or the package index; `versions` replace some of it.

    Hashes are compared, but for a version in `versions` that no lock holds. Raises EnvironmentProblem where
    pip cannot get a wheel.
    """
    wanted = {**platform.lock, **(versions or {})}
    known = {**locked(_OLDER), **locked(platform.lock_file)}
    version = f"{platform.python[0]}.{platform.python[1]}"
    place = cache / f"{platform.machine}-{version}-{_digest(str(sorted(wanted.items())))}"
    held = sorted(place.glob("*.whl"))
    if len(held) == len(wanted):
        return held
    lines = [known[pair] for pair in wanted.items() if pair in known]
    other = [f"{name}=={number}" for name, number in wanted.items() if (name, number) not in known]
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "lock.txt"
        lock.write_text("".join(lines), encoding="utf-8")
        _download(platform, place, "--require-hashes", "--requirement", str(lock))
    if other:
        _download(platform, place, *other)
    return sorted(place.glob("*.whl"))


def _download(platform: Platform, place: Path, *what: str) -> None:
    version = f"{platform.python[0]}.{platform.python[1]}"
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(place)]
    command += [word for tag in platform.tags for word in ("--platform", tag)]
    command += ["--python-version", version, *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr or done.stdout).strip()[-400:]
        raise EnvironmentProblem(
            f"no wheels for the device ({platform.machine}, Python {version}): {why}; with --env own the "
            "device's own packages are used"
        )


def _pip() -> list[str]:
    """pip as a command; environments that uv makes have none of their own."""
    if find_spec("pip") is None and shutil.which("uv") is not None:
        return ["uv", "tool", "run", "--quiet", "pip"]
    return [sys.executable, "-m", "pip"]


def _sources() -> dict[str, Path]:
    """Python files by their place in the wheel; in a checkout the subpackages lie elsewhere."""
    found: dict[str, Path] = {}
    for package, left in zip((pam_edge, pam_edge.benchmarks, pam_edge.runtimes), _LEFT, strict=True):
        root = Path(str(package.__file__)).resolve().parent
        for path in root.rglob("*.py"):
            inside = path.relative_to(root)
            if inside.parts[0] not in left:
                found[f"{package.__name__.replace('.', '/')}/{inside.as_posix()}"] = path
    return found


def _add(wheel: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    wheel.writestr(entry, content)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
