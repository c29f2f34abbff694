"""What this machine has: memory, disk, cores, instructions. Knows nothing of models; guesses nothing.

A figure the system does not give is None, never an assumption. Linux control groups (containers) count: what
is available is the least of the machine's and every enclosing group's headroom.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from pathlib import Path

CPU_FLAGS = (
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
_UNLIMITED = 1 << 60


def available_memory(*, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes a new process may use now without swapping, or None where the system does not say."""
    found = [_meminfo(proc, "MemAvailable"), *_group_headrooms(proc, groups)]
    known = [value for value in found if value is not None]
    if known:
        return max(0, min(known))
    return _sysconf("SC_AVPHYS_PAGES") or total_memory(proc=proc)


def total_memory(*, proc: Path = Path("/proc")) -> int | None:
    """Bytes of memory in the machine, or None where the system does not say."""
    return _meminfo(proc, "MemTotal") or _sysconf("SC_PHYS_PAGES")


def free_disk(path: Path) -> int | None:
    """Free bytes where `path` lies or would lie, or None where the system does not say."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return None
    return usage.free if usage.total else None  # a file system without blocks, such as /proc


def cores() -> int:
    """Cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def cpu_features(*, proc: Path = Path("/proc")) -> tuple[str, ...] | None:
    """Instructions that matter to these models and are there, or None where the system does not say."""
    try:
        text = (proc / "cpuinfo").read_text(errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() in ("flags", "features"):
            have = set(value.split())
            return tuple(flag for flag in CPU_FLAGS if flag in have)
    return None


def return_freed_memory() -> None:
    """Have the C library give back to the system what was freed: tensors of many sizes leave holes, which
    count as in use. Does nothing where there is no such call.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim is not None:
            trim(0)


def describe_host() -> str:
    """Operating system, processor kind and Python, in one line: enough to say where numbers were made."""
    return f"{platform.system()} {platform.machine()}, {cores()} cores, Python {platform.python_version()}"


def _meminfo(proc: Path, field: str) -> int | None:
    try:
        text = (proc / "meminfo").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key == field:
            return int(value.split()[0]) * 1024
    return None


def _sysconf(pages: str) -> int | None:
    try:
        return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _group_headrooms(proc: Path, groups: Path) -> list[int]:
    """Limit minus use (droppable pages not counted) of every group this process is in, both versions."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    headrooms = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, limit, used, droppable = groups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, used = groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            droppable = "total_inactive_file"
        else:
            continue
        place = root / path.lstrip("/")
        while place.is_relative_to(root):
            headroom = _headroom(place, limit=limit, used=used, droppable=droppable)
            if headroom is not None:
                headrooms.append(headroom)
            place = place.parent
    return headrooms


def _headroom(place: Path, *, limit: str, used: str, droppable: str) -> int | None:
    try:
        most = int((place / limit).read_text())
        if most >= _UNLIMITED:
            return None
        stat = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
        return most - int((place / used).read_text()) + int(stat.get(droppable, 0))
    except (OSError, ValueError):  # no such group here, or "max": no limit
        return None
