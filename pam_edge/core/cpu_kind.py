"""The kind of CPU by its integer instructions: "x86-64: avx512 vnni", "aarch64: dotprod i8mm".

Engines choose integer kernels by these instructions, and kernels differ in how they accumulate: AVX2 without
VNNI adds pairs of products in 16 bits. CPUs of one kind run the same kernels. The kind is what the operating
system reports. Under an emulator of single programs (`qemu-x86_64`), and where instruction sets are hidden
from the engine, the system reports the host's; set PAM_EDGE_CPU_KIND there to what the engine sees.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Sequence, Set
from functools import lru_cache
from pathlib import Path

ENV = "PAM_EDGE_CPU_KIND"
_X86, _ARM = "x86-64", "aarch64"
_MACHINES = {"x86_64": _X86, "amd64": _X86, "x64": _X86, "aarch64": _ARM, "arm64": _ARM}
# What ONNX Runtime's kernels of that width ask for (MLAS), by Linux's names.
_AVX2 = {"avx2", "fma"}
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
_LINUX_ARM = {"asimddp": "dotprod", "i8mm": "i8mm", "sme": "sme"}
_AUXILIARY = ((16, 20, "asimddp"), (26, 13, "i8mm"), (26, 23, "sme"))  # AT_HWCAP and AT_HWCAP2: bit and name
_MAC_ARM = {"FEAT_DotProd": "dotprod", "FEAT_I8MM": "i8mm", "FEAT_SME": "sme"}
_MAC_X86 = {
    "avx1_0": "avx",
    "avx2_0": "avx2",
    "fma": "fma",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512vnni": "avx512_vnni",
}
_WINDOWS_ARM = {43: "dotprod", 66: "i8mm", 70: "sme"}  # arguments of IsProcessorFeaturePresent
_WINDOWS_X86 = {39: ("avx",), 40: tuple(_AVX2), 41: tuple(_AVX512)}


@lru_cache(maxsize=1)
def cpu_kind() -> str | None:
    """This CPU's kind, or None where the system does not tell it or the architecture is another.

    PAM_EDGE_CPU_KIND, where it is set, is taken as it is.
    """
    if named := os.environ.get(ENV):
        return named
    machine = _MACHINES.get(platform.machine().lower())
    if machine is None:
        return None
    match sys.platform:
        case "linux":
            return linux_kind(machine)
        case "darwin":
            return mac_kind(machine, _sysctl)
        case "win32":
            return windows_kind(machine, _windows_has)
    return None


def linux_kind(machine: str, *, cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """From /proc/cpuinfo; on aarch64, where that has no list, from what the kernel hands to each program."""
    have = _listed(cpuinfo, "flags" if machine == _X86 else "features")
    if machine == _X86:
        return None if have is None else x86_kind(have)
    if have is None and (have := _auxiliary()) is None:
        return None
    return _named(_ARM, [name for flag, name in _LINUX_ARM.items() if flag in have])


def mac_kind(machine: str, has: Callable[[str], bool]) -> str:
    """From sysctl's `hw.optional`."""
    if machine == _ARM:
        return _named(_ARM, [name for key, name in _MAC_ARM.items() if has(f"hw.optional.arm.{key}")])
    return x86_kind({flag for key, flag in _MAC_X86.items() if has(f"hw.optional.{key}")})


def windows_kind(machine: str, has: Callable[[int], bool]) -> str:
    """From IsProcessorFeaturePresent, which does not tell of VNNI: that stays open, and is another kind."""
    if machine == _ARM:
        return _named(_ARM, [name for number, name in _WINDOWS_ARM.items() if has(number)])
    return f"{x86_kind({flag for n, flags in _WINDOWS_X86.items() if has(n) for flag in flags})} vnni?"


def x86_kind(have: Set[str]) -> str:
    """From flags by Linux's names: the widest vectors, and dot products of bytes."""
    if have >= _AVX512:
        width, dots = ["avx512"], {"avx512_vnni"}
    elif have >= _AVX2:
        width, dots = ["avx2"], {"avx_vnni"}
    else:
        return _named(_X86, ["avx"] if "avx" in have else [])
    return _named(_X86, width + ["vnni"] * bool(have & dots) + ["amx"] * ("amx_int8" in have))


def _named(machine: str, features: Sequence[str]) -> str:
    return f"{machine}: {' '.join(features) or 'baseline'}"


def _listed(cpuinfo: Path, key: str) -> set[str] | None:
    """The first list of that name; the file is read no further, it has one for every core."""
    try:
        with cpuinfo.open(errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip().lower() == key:
                    return set(value.split())
    except OSError:
        pass
    return None


def _auxiliary() -> set[str] | None:
    try:
        ask = ctypes.CDLL(None).getauxval
    except (OSError, AttributeError):
        return None
    ask.argtypes, ask.restype = [ctypes.c_ulong], ctypes.c_ulong
    return {name for kind, bit, name in _AUXILIARY if ask(kind) >> bit & 1}


def _sysctl(name: str) -> bool:
    value = ctypes.c_int64(0)
    length = ctypes.c_size_t(ctypes.sizeof(value))
    try:
        ask = ctypes.CDLL(None).sysctlbyname
        failed = ask(name.encode(), ctypes.byref(value), ctypes.byref(length), None, ctypes.c_size_t(0))
    except (OSError, AttributeError):
        return False
    return not failed and value.value != 0


def _windows_has(number: int) -> bool:
    dll = getattr(ctypes, "windll", None)
    return dll is not None and bool(dll.kernel32.IsProcessorFeaturePresent(number))
