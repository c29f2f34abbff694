"""The locks hold what pyproject.toml asks for, with hashes, and name no package index."""

from __future__ import annotations

import json
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pam_edge.benchmarks.competitors.pins import PINS
from pam_edge.benchmarks.devices import pack
from tools import lock as locks
from tools.cpus.emulated import ARM_ENGINE
from tools.newest import differences, locked

ROOT = Path(__file__).parents[1]
LINE = re.compile(r"(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+))? \\")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SYSTEMS = {
    "linux": ("Linux", ("x86_64", "aarch64"), "posix"),
    "darwin": ("Darwin", ("arm64",), "posix"),
    "win32": ("Windows", ("AMD64",), "nt"),
}
by_path = pytest.mark.parametrize("lock", locks.LOCKS, ids=lambda lock: lock.path)


def environments(lock: locks.Lock) -> list[dict[str, str]]:
    """What markers are evaluated against: every Python on every system that a lock is for."""
    found = []
    for python in (
        [lock.python]
        if lock.python
        else [p for p in PYTHONS if Requirement(f"x>={lock.oldest}").specifier.contains(p)]
    ):
        for platform, (system, machines, name) in SYSTEMS.items():
            for machine in machines:
                if lock.python and platform != "linux":
                    continue
                found.append(
                    {
                        "python_version": python,
                        "python_full_version": f"{python}.9",
                        "sys_platform": platform,
                        "platform_system": system,
                        "platform_machine": machine,
                        "os_name": name,
                        "extra": "",
                    }
                )
    return found


def versions(path: str, environment: dict[str, str]) -> dict[str, list[str]]:
    """Versions of each package that a lock installs there."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        match = LINE.fullmatch(line)
        if match and (match["marker"] is None or Marker(match["marker"].strip()).evaluate(environment)):
            found.setdefault(match["name"], []).append(match["version"])
    return found


@by_path
def test_it_was_resolved_from_what_is_asked_for_today(lock: locks.Lock) -> None:
    assert locks.recorded(lock) == locks.digest(lock), f"run `make lock` ({lock.path})"


@by_path
def test_every_line_is_a_version_with_hashes_and_nothing_else(lock: locks.Lock) -> None:
    lines = (ROOT / lock.path).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# Written by") and lines[1].startswith("# resolved from: sha256:")
    for before, line in pairwise(lines[1:]):
        a_hash = re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?", line)
        assert a_hash or LINE.fullmatch(line), line
        assert before.endswith("\\") == bool(a_hash), f"{lock.path}: {line}"
    assert not lines[-1].endswith("\\")


@by_path
def test_what_is_asked_for_is_there_once_on_every_python_and_system(lock: locks.Lock) -> None:
    asked = [Requirement(text) for text in locks.wanted(lock)]
    for environment in environments(lock):
        found = versions(lock.path, environment)
        assert all(len(several) == 1 for several in found.values()), (environment, found)
        for requirement in asked:
            name = canonicalize_name(requirement.name)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                assert requirement.specifier.contains(found[name][0]), (requirement, environment)


@pytest.mark.parametrize("smaller", ["run", "demo", "dev"])
def test_each_environment_holds_the_smaller_ones(smaller: str) -> None:
    for environment in environments(locks.LOCKS[0]):
        whole = versions(locks.EVERYTHING, environment)
        part = versions(f"requirements/{smaller}.txt", environment)
        assert part.items() <= whole.items()


def test_pinned_peers_are_the_locked_ones() -> None:
    for pin in PINS:
        for package in pin.packages:
            if pin.registry == "pip":
                text = (ROOT / "benchmarks" / "competitors" / "locks" / f"{pin.name}.txt").read_text()
                assert f"\n{package} \\" in text
            if pin.registry == "npm":
                name, _, version = package.rpartition("@")
                folder = ROOT / "benchmarks" / "competitors" / "locks" / pin.name
                asked = json.loads((folder / "package.json").read_text())["dependencies"]
                content = (folder / "package-lock.json").read_text()
                held = json.loads(content)["packages"][f"node_modules/{name}"]
                assert asked == {name: version} and held["version"] == version
                assert held["integrity"].startswith("sha512-") and "resolved" not in content


@pytest.mark.parametrize("python", PYTHONS)
def test_devices_get_the_versions_that_are_locked_here(python: str) -> None:
    major, minor = python.split(".")
    platform = pack.Platform((int(major), int(minor)), "aarch64", "2.35")
    (environment,) = (
        e
        for e in environments(locks.LOCKS[0])
        if (e["python_version"], e["platform_machine"]) == (python, "aarch64")
    )
    here = versions(locks.EVERYTHING, environment)  # psutil is of an extra
    assert set(platform.lock) == set(locks.DEVICE)
    assert {name: [version] for name, version in platform.lock.items()} == {n: here[n] for n in locks.DEVICE}


def test_the_emulator_s_engine_is_locked_too() -> None:
    assert list(pack.locked(pack.LOCKS / "older.txt")) == [("onnxruntime", ARM_ENGINE)]


def test_a_changed_requirement_changes_the_digest() -> None:
    (run,) = (lock for lock in locks.LOCKS if lock.path == locks.RUN)
    project = {"project": {"dependencies": ["numpy>=1"], "optional-dependencies": {}}}
    other = {"project": {"dependencies": ["numpy>=2"], "optional-dependencies": {}}}
    assert locks.digest(run, project) != locks.digest(run, other)


def test_what_differs_from_the_lock_is_told() -> None:
    text = (
        "a==1.0 \\\n    --hash=sha256:0\nb==2 ; python_full_version < '3' \\\n"
        f"b==3 ; sys_platform == '{sys.platform}' \\\nc==1 \\\n"
    )
    assert locked(text) == {"a": "1.0", "b": "3", "c": "1"}
    found = differences(locked(text), {"a": "1.0", "b": "4", "d": "5"})
    assert found == ["b: 3 -> 4", "c: 1 -> not installed", "d: not in the lock -> 5"]
