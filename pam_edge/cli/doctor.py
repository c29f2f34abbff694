"""The verb `doctor`: what this machine has, what is missing, and how to install it. Changes nothing.

A finding is fine, a hint (something optional is missing), or a fault (the runtime itself cannot work). The
only bundle it looks at is nano.
"""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from pam_edge.bundle import builtin
from pam_edge.bundle.bundle import Bundle
from pam_edge.core import system_info, user_cache
from pam_edge.core.cpu_kind import cpu_kind
from pam_edge.core.errors import PamEdgeError
from pam_edge.render.tables import clean, columns, size
from pam_edge.runtimes.common.registry import check_engine
from pam_edge.targets import TARGETS
from pam_edge.verify.verified_here import look_up, verdict, warnings

PACKAGE = "pam-edge"
OURS = "onnxruntime"  # the engine that the package itself requires
NOT_REPORTED = "not reported by this system"
SMALL_MEMORY = 2 * 10**9


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what it is, and what to do where it is not fine."""

    what: str
    found: str
    state: Literal["ok", "hint", "fault"] = "ok"
    advice: str = ""


def examine() -> list[Finding]:
    """Everything, in the order it is shown."""
    return [*_machine(), *_packages(), *_engines(), *_verified()]


def healthy(findings: list[Finding]) -> bool:
    """True where the runtime can work."""
    return all(finding.state != "fault" for finding in findings)


def as_json(findings: list[Finding]) -> dict[str, Any]:
    """For machines, schema 1."""
    return {"schema": 1, "healthy": healthy(findings), "findings": [asdict(finding) for finding in findings]}


def as_text(findings: list[Finding]) -> str:
    """For people."""
    return columns([(f.state, f.what, f.found, f"-> {f.advice}" if f.advice else "") for f in findings])


def _machine() -> list[Finding]:
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    found = [
        Finding("pam-edge", _version(PACKAGE) or "not installed, run from a checkout"),
        Finding(
            "Python",
            platform.python_version(),
            "ok" if supported else "hint",
            "" if supported else "pam-edge is made for Python 3.10 to 3.13",
        ),
        Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        Finding("cores", str(system_info.cores())),
    ]
    features = system_info.cpu_features()
    found.append(
        Finding(
            "instructions", NOT_REPORTED if features is None else ", ".join(features) or "none that matter"
        )
    )
    found.append(Finding("kind of CPU", cpu_kind() or NOT_REPORTED))
    memory, total = system_info.available_memory(), system_info.total_memory()
    if memory is None:
        found.append(Finding("memory", NOT_REPORTED))
    else:
        shown = f"{size(memory)} free" + (f" of {size(total)}" if total else "")
        little = memory < SMALL_MEMORY
        advice = "PAM's own sizes will not fit in float32; close other programs" if little else ""
        found.append(Finding("memory", shown, "hint" if little else "ok", advice))
    disk = system_info.free_disk(Path.cwd())
    found.append(Finding("disk here", NOT_REPORTED if disk is None else f"{size(disk)} free"))
    cache = user_cache.cache_folder()
    found.append(Finding("user cache", "none: this user has no home" if cache is None else str(cache)))
    return found


def _packages() -> list[Finding]:
    """Requirements of the installed package: its own, and each extra's."""
    try:
        wanted = requires(PACKAGE) or []
    except PackageNotFoundError:
        return [
            Finding("packages", "unknown", "hint", f"install {PACKAGE}: `pip install -e .` in the checkout")
        ]
    extras: dict[str, list[Finding]] = {}
    for requirement in wanted:
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", requirement)
        name = re.match(r"[\w.-]+", requirement)
        if name is not None:
            extras.setdefault(extra[1] if extra else "", []).append(
                _package(name[0], requirement, extra[1] if extra else "")
            )
    own = extras.pop("", [])
    return own + [_extra(name, parts) for name, parts in extras.items()]


def _package(name: str, requirement: str, extra: str) -> Finding:
    have = _version(name)
    pin = re.search(r"==\s*([\w.]+)", requirement.split(";")[0])
    command = f"pip install {PACKAGE}" + (f"[{extra}]" if extra else "")
    if have is None:
        return Finding(name, "missing", "hint" if extra else "fault", command)
    if pin and have.split("+")[0] != pin[1]:
        return Finding(name, have, "hint", f"tested with {pin[1]}: {command}")
    return Finding(name, have)


def _extra(name: str, parts: list[Finding]) -> Finding:
    missing = [part.what for part in parts if part.found == "missing"]
    other = [
        f"{part.what} {part.found}" for part in parts if part.state == "hint" and part.found != "missing"
    ]
    what = f"extra [{name}]"
    if missing:
        advice = f"pip install '{PACKAGE}[{name}]'" + (" (only to export)" if name == "export" else "")
        return Finding(what, f"missing {', '.join(missing)}", "hint", advice)
    if other:
        return Finding(
            what,
            f"other versions than tested: {', '.join(other)}",
            "hint",
            f"pip install '{PACKAGE}[{name}]'",
        )
    return Finding(what, ", ".join(f"{part.what} {part.found}" for part in parts))


def _engines() -> list[Finding]:
    """Whether each runtime's engine opens. Only one is needed here; the others are on their devices."""
    found = []
    for name in sorted({target.runtime for target in TARGETS}):
        try:
            check_engine(name)
        except PamEdgeError as e:
            state: Literal["fault", "hint"] = "fault" if name == OURS else "hint"
            found.append(Finding(f"engine {name}", "does not open", state, str(e)))
        else:
            found.append(Finding(f"engine {name}", f"opens ({_version(name) or 'built in'})"))
    return found


def _verified() -> list[Finding]:
    """Whether the packaged bundle was verified on this kind of CPU."""
    try:
        here = look_up(Bundle.open(builtin.NANO, check=False))
    except PamEdgeError as e:
        return [Finding("bundle nano", "does not open", "hint", str(e))]
    problems = clean("; ".join(warnings(here)))
    return [Finding("bundle nano", clean(verdict(here)) or "opens", "hint" if problems else "ok", problems)]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
