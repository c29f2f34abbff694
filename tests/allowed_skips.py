"""Skips that stay skips in CI, by the reason they give: the machine or its system can never run the test."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass

from pam_edge.core.system_info import cpu_features

LINUX = sys.platform == "linux"


@dataclass(frozen=True)
class Allowed:
    """A reason, as the test words it; whether it holds on this machine; why nothing can be done about it."""

    reason: str
    here: bool
    why: str


ALLOWED = (
    Allowed(
        "no VNNI here to hide",
        "avx512_vnni" not in (cpu_features() or ()) or "HIDE_FROM" in os.environ,
        "the CPU has no such instructions, so the kernels without them run in all other tests",
    ),
    Allowed(
        "kernels of x86-64, tools of Linux",
        not LINUX or platform.machine() != "x86_64",
        "instruction sets are hidden in x86-64 programs of Linux alone",
    ),
    Allowed("there CoreML is", sys.platform == "darwin", "the test is of a system without CoreML"),
    Allowed(
        "could not import 'coremltools'",
        sys.platform != "darwin" and not (LINUX and platform.machine() == "x86_64"),
        "Apple publishes it for macOS and Linux on x86-64 alone",
    ),
    Allowed("reads Linux's words", not LINUX, "/proc/cpuinfo is Linux's"),
    Allowed("reads /proc", not LINUX, "it is Linux's"),
    Allowed("memory is read from /proc", not LINUX, "it is Linux's"),
    Allowed("needs a file that is always full", not LINUX, "/dev/full is Linux's"),
    Allowed("needs a disk that is full", not LINUX, "/dev/full is Linux's"),
    Allowed("where not even root may write", not LINUX, "/proc is Linux's"),
    Allowed("does not let a process do that", not LINUX, "/proc/self/clear_refs is Linux's"),
    Allowed(
        "on a CPU nobody tells of", cpu_features() is None, "the system does not tell the CPU's features"
    ),
    Allowed("links, modes and owners of POSIX", os.name == "nt", "Windows has others"),
    Allowed("could not import 'resource'", os.name == "nt", "limits of POSIX"),
    Allowed("a checkout without links", os.name == "nt", "git makes no links there unless told to"),
    Allowed("needs make", shutil.which("make") is None, "whoever runs pytest without make does not use it"),
)


def allowed(reason: str) -> bool:
    """Whether a test may give this reason here."""
    return any(skip.here and skip.reason in reason for skip in ALLOWED)
