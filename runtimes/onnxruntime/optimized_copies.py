"""A cache of small graphs as ONNX Runtime optimized them, so that they open faster.

Most of the time to open a small graph goes into the engine's graph optimization; opening the optimized graph
with optimization switched off gives the same outputs bit by bit in about a third of the time. A copy is tied
to the content of the graph's file, the engine's version and the kind of CPU (the engine lays out convolutions
for its vector width), and is used only if its digest matches; otherwise the graph itself is opened. Large
graphs are not cached: opening them spends its time on packing weights, which a copy does not save.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import onnxruntime as ort

from pam_edge.core import user_cache
from pam_edge.core.cpu_kind import cpu_kind
from pam_edge.runtimes.onnxruntime.integer_products import saturates

FORMAT = "1"  # of a kept copy, and of the options that graphs are optimized under
MAX_BYTES = 4 << 20  # of a graph's file; nano's have 1.2 MB, PAM's 11 MB and more
_MAX_COPY = 4 * MAX_BYTES  # weights stored in 16 bits are widened
_KEPT = 48  # copies; nano has six graphs
_FOLDER, _DIGEST = "onnxruntime", 32


def open_session(
    path: Path, options: Callable[[], ort.SessionOptions], *, alone: bool
) -> ort.InferenceSession:
    """A session of the graph in the file `path`. `options` gives new ones for each attempt.

    `alone`: the graph reads no other file. Raises what onnxruntime raises for the graph, OSError where it
    cannot be read.
    """
    cpu = _cpu()
    if not alone or cpu is None or path.stat().st_size > MAX_BYTES:
        return _session(str(path), options())
    graph = path.read_bytes()
    place = _place(graph, cpu)
    if (copy := _kept(place)) is not None:
        del graph  # both at once would raise the peak
        chosen = options()
        chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return _session(copy, chosen)
        except Exception:  # whatever it is: the graph itself says whether something is wrong
            user_cache.remove(place)
    return _optimized(path.read_bytes(), options, place)


def _optimized(graph: bytes, options: Callable[[], ort.SessionOptions], place: str) -> ort.InferenceSession:
    """Open the graph itself, and keep what the engine made of it."""
    session: ort.InferenceSession | None = None
    with user_cache.writing(place) as made:
        if made is not None:
            keeping = options()
            keeping.optimized_model_filepath = str(made)
            with suppress(Exception):  # a full disk, say; what is wrong with the graph is told below
                session = _session(graph, keeping)
                content = made.read_bytes()
                made.write_bytes(hashlib.sha256(content).digest() + content)
            if session is None:
                made.unlink(missing_ok=True)
    if session is None:
        return _session(graph, options())
    _prune()
    return session


def _session(graph: str | bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _place(graph: bytes, cpu: str) -> str:
    """Where the copy of a graph for this machine is kept."""
    digest = hashlib.sha256(graph)
    products = "saturate" if saturates() else "exact"  # decides how int8 weights are stored in the copy
    for part in (FORMAT, ort.__version__, cpu, cpu_kind() or "", products):
        digest.update(hashlib.sha256(part.encode()).digest())
    return f"{_FOLDER}/{digest.hexdigest()}.onnx"


def _kept(place: str) -> bytes | None:
    found = user_cache.read(place, limit=_MAX_COPY)
    if found is None or hashlib.sha256(memoryview(found)[_DIGEST:]).digest() != found[:_DIGEST]:
        return None
    return found[_DIGEST:]


@cache
def _cpu() -> str | None:
    """What the engine's choice of operators may depend on: architecture and, on x86, instructions."""
    machine = platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        return f"{sys.platform} {machine}"
    if sys.platform == "win32":
        return f"win32 {platform.processor()}"  # family, model and stepping
    try:
        with Path("/proc/cpuinfo").open(errors="replace") as lines:
            flags = next(line for line in lines if line.startswith("flags"))
    except (OSError, StopIteration):
        return None
    return f"{machine} {' '.join(sorted(flags.partition(':')[2].split()))}"


def _prune() -> None:
    """Forget the copies that were made first, where there are many."""
    folder = user_cache.find(_FOLDER)
    if folder is None:
        return
    with suppress(OSError):
        copies = sorted(folder.glob("*.onnx"), key=os.path.getmtime)
        for old in copies[:-_KEPT]:
            old.unlink(missing_ok=True)
