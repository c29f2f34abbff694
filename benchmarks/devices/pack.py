"""What a device needs to run ours: this package as a wheel, and the wheels of a locked environment.

A wheel is a zip: unpacked into a folder on PYTHONPATH it is installed, so that a device needs neither pip nor
a network. The lock is short: the run side alone. Wheels come from the package index through pip, on this
side, for the device's processor and Python.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import pam_edge.benchmarks
import pam_edge.runtimes
from pam_edge.core.errors import DeviceError, EnvironmentProblem

# The newest that have wheels for Linux on x86-64 and 64-bit ARM, by the device's Python.
LOCK: dict[tuple[int, int], dict[str, str]] = {
    (3, 10): {"numpy": "2.2.6", "onnxruntime": "1.23.2"},
    (3, 11): {"numpy": "2.3.5", "onnxruntime": "1.31.1"},
    (3, 12): {"numpy": "2.3.5", "onnxruntime": "1.31.1"},
    (3, 13): {"numpy": "2.3.5", "onnxruntime": "1.31.1"},
}
ALWAYS = {"pillow": "12.3.0", "tokenizers": "0.23.3", "msgspec": "0.22.0", "psutil": "7.2.2"}
# What no device runs; nano's files travel as a bundle.
_LEFT = ("nano", "export", "quantize", "benchmarks", "runtimes"), ("peers", "report", "results"), ()
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
        known = LOCK.get(self.python)
        if known is None:
            versions = ", ".join(f"{a}.{b}" for a, b in LOCK)
            raise DeviceError(
                f"the device has Python {self.python[0]}.{self.python[1]}; known are {versions}: "
                "name another with --python"
            )
        return {**known, **ALWAYS}


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

    Raises EnvironmentProblem where pip cannot get one.
    """
    wanted = {**platform.lock, **(versions or {})}
    version = f"{platform.python[0]}.{platform.python[1]}"
    place = cache / f"{platform.machine}-{version}-{_digest(str(sorted(wanted.items())))}"
    held = sorted(place.glob("*.whl"))
    if len(held) == len(wanted):
        return held
    command = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [word for tag in platform.tags for word in ("--platform", tag)]
    command += ["--python-version", version, "--dest", str(place)]
    command += [f"{name}=={number}" for name, number in wanted.items()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr or done.stdout).strip()[-400:]
        raise EnvironmentProblem(
            f"no wheels for the device ({platform.machine}, Python {version}): {why}; with --env own the "
            "device's own packages are used"
        )
    return sorted(place.glob("*.whl"))


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
