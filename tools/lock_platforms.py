"""Check that every package of the locks has a wheel for each Python and system (`make lock`).

Installs nothing.

    python tools/lock_platforms.py --uv uv

A universal lock only says that versions fit together. Ends with 1 where a wheel is missing: a marker in
pyproject.toml then leaves the package out there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = (
    "x86_64-manylinux_2_28",
    "aarch64-manylinux_2_28",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
)
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
LOCKS = ("run", "demo", "dev")
SOURCE = "antlr4-python3-runtime"  # of ExecuTorch's configuration files; has no wheel, is Python alone


def flaw(uv: str, lock: str, platform: str, python: str) -> str | None:
    """Why a lock cannot be installed there from wheels, or None."""
    with tempfile.TemporaryDirectory() as target:
        command = [uv, "pip", "install", "--dry-run", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--no-binary", SOURCE, "--target", target]
        command += ["--python-platform", platform, "--python-version", python]
        command += ["--requirements", str(ROOT / "requirements" / f"{lock}.txt")]
        settings = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}  # the oldest that torch 2.13 runs on
        done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Check all of them; returns 1 where a wheel is missing."""
    parser = argparse.ArgumentParser(prog="lock_platforms", description="Check that the locks have wheels.")
    parser.add_argument("--uv", default="uv")
    uv = parser.parse_args(argv).uv
    failed = False
    for platform, python, lock in product(PLATFORMS, PYTHONS, LOCKS):
        found = flaw(uv, lock, platform, python)
        failed = failed or found is not None
        if found is not None:
            print(f"{lock}, {platform}, Python {python}: {found}", file=sys.stderr)  # noqa: T201 - a command
    if not failed:
        print(f"wheels for Python {', '.join(PYTHONS)} on {', '.join(PLATFORMS)}")  # noqa: T201
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
