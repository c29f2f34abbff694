"""The runner for phones: Python, ONNX Runtime and this package for Linux on 64-bit ARM, in one folder.

    python -m pam_edge.benchmarks.devices.arm64 --out FOLDER

Takes Debian's (or Ubuntu's) arm64 packages with apt, without touching this system's own, and wheels of the
lock (`pack.py`). The programs bring their own loader, so that they need nothing of the system they run on
but a Linux kernel. Not tried on a phone; run for correctness under qemu-user.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from pam_edge.benchmarks.devices.pack import Platform, fetched_wheels, own_wheel
from pam_edge.core.errors import EnvironmentProblem, PamEdgeError, UsageError

_SYSTEM = ("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5")
_PYTHON = ("python{v}-minimal", "libpython{v}-minimal", "libpython{v}-stdlib")
_RUN = """#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
export PYTHONHOME="$here/root/usr" PYTHONPATH="$here/site" PYTHONDONTWRITEBYTECODE=1
libs="$here/root/lib/aarch64-linux-gnu:$here/root/usr/lib/aarch64-linux-gnu"
exec "$here/root/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1" --library-path "$libs" \\
  "$here/root/usr/bin/python{v}" -m pam_edge.benchmarks.speed.runner
"""


def make(out: Path, *, python: tuple[int, int], versions: dict[str, str], cache: Path) -> Path:
    """Make the folder, whole or not at all; returns it. `versions` replace some of the lock.

    Raises UsageError where it is there already, EnvironmentProblem where apt or pip cannot get something.
    """
    if out.exists():
        raise UsageError(f"--out {out} is there already: remove it, or name another folder")
    version = f"{python[0]}.{python[1]}"
    making = out.with_name(out.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for package in debian_packages([*_SYSTEM, *(name.format(v=version) for name in _PYTHON)], cache):
        _run(["dpkg-deb", "-x", str(package), str(making / "root")])
    platform = Platform(python, "aarch64", "2.35")
    wheels = [*fetched_wheels(platform, cache, versions=versions), own_wheel(cache / "own")]
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(making / "site")
    for left in ("usr/share", "usr/include", "var", "etc"):
        shutil.rmtree(making / "root" / left, ignore_errors=True)
    run = making / "run"
    run.write_text(_RUN.replace("{v}", version))
    run.chmod(0o755)
    making.replace(out)
    return out


def debian_packages(names: Sequence[str], cache: Path) -> list[Path]:
    """Files of arm64 packages, from `cache` or by apt with lists of its own. Raises EnvironmentProblem."""
    place = cache / "arm64-packages"
    missing = [name for name in names if not list(place.glob(f"{name}_*.deb"))]
    if missing:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            apt = _apt(Path(folder))
            _run([*apt, "update"])
            _run([*apt, "download", *missing], cwd=place)
    return [next(place.glob(f"{name}_*.deb")) for name in names]


def _apt(folder: Path) -> list[str]:
    """apt-get for arm64, with its state in `folder`: this system's own is left alone."""
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    options = {
        "Dir::State": f"{folder}/state",
        "Dir::State::status": f"{folder}/status",
        "Dir::Cache": f"{folder}/cache",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "APT::Get::AllowUnauthenticated": "false",
    }
    return ["apt-get", "-qq", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]


def _run(command: Sequence[str], *, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    except OSError as e:
        raise EnvironmentProblem(f"{command[0]} cannot be started: {e}; this needs Debian or Ubuntu") from e
    if done.returncode != 0:
        raise EnvironmentProblem(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code (see errors.py)."""
    parser = argparse.ArgumentParser(prog="arm64", description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--python", default="3.11", help="what this system's release has")
    parser.add_argument("--onnxruntime", help="another release than the lock's")
    given = parser.parse_args(argv)
    try:
        if re.fullmatch(r"3\.\d+", given.python) is None:
            raise UsageError(f"--python {given.python!r}: write 3.11")
        minor = int(given.python[2:])
        versions = {} if given.onnxruntime is None else {"onnxruntime": given.onnxruntime}
        cache = Path.home() / ".cache" / "pam-edge"
        made = make(given.out, python=(3, minor), versions=versions, cache=cache)
    except PamEdgeError as e:
        print(f"arm64: {e}", file=sys.stderr)  # noqa: T201 - a command of its own
        return e.exit_code
    print(f"runner: {made}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
