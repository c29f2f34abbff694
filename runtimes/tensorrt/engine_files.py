"""Compiled engines beside a bundle: where they are, what compiled them, and whether they may run here.

An engine is code for one GPU, driver and TensorRT version; elsewhere it is refused. TensorRT-RTX's engines
are for generations of cards, and only its version counts. Knows the two packages' common interface, no graph.
"""

from __future__ import annotations

import importlib
import mmap
from pathlib import Path
from typing import Any, Literal

import msgspec

from pam_edge.bundle.bundle import Bundle, sha256_of
from pam_edge.bundle.manifest import Graph
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError

ENGINES = "engines"  # folder within the bundle's; bundle.json names nothing in it
TIMING_CACHE = "timing.cache"
Flavour = Literal["tensorrt", "tensorrt_rtx"]
_INSTALL: dict[str, str] = {
    "tensorrt": "on a Jetson it comes with JetPack (use its own Python, or a virtual environment made with "
    "--system-site-packages); elsewhere pip install tensorrt",
    "tensorrt_rtx": "pip install tensorrt-rtx",
}


class Maker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine runs on. TensorRT-RTX: `gpu` names compute capabilities, the driver does not count."""

    runtime: Flavour
    version: str  # of TensorRT
    gpu: str
    driver: str


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """GRAPH.json beside GRAPH.engine."""

    schema: Literal[1]
    graph: str
    source: tuple[str, ...]  # sha256 of the graph's files
    maker: Maker
    bytes: int
    sha256: str  # of the engine
    seconds: float  # it took to compile


def flavour_of(bundle: Bundle) -> Flavour:
    """Which package a bundle is for. Raises UsageError where it is for neither."""
    match bundle.manifest.runtime:
        case "tensorrt":
            return "tensorrt"
        case "tensorrt_rtx":
            return "tensorrt_rtx"
        case other:
            raise UsageError(f"{bundle.folder} is for {other}, which needs no engines: it runs as it is")


def package(flavour: str) -> Any:
    """The engine's package. Raises EnvironmentProblem that says how to get it."""
    try:
        return importlib.import_module(flavour)
    except ImportError as e:
        raise EnvironmentProblem(f"{flavour} cannot be imported ({e}): {_INSTALL[flavour]}") from e


def engine_path(bundle: Bundle, graph: str) -> Path:
    """Where a graph's engine lies, or would lie."""
    return bundle.folder / ENGINES / f"{graph}.engine"


def record_path(bundle: Bundle, graph: str) -> Path:
    """Where the record of a graph's engine lies, or would lie."""
    return bundle.folder / ENGINES / f"{graph}.json"


def source_of(graph: Graph) -> tuple[str, ...]:
    """What tells a graph's files from others."""
    return tuple(ref.sha256 for ref in graph.files)


def read_record(bundle: Bundle, graph: str) -> Record | None:
    """The record of a graph's engine, None where none was made. Raises IntegrityError for a damaged one."""
    path = record_path(bundle, graph)
    if path.is_symlink() or not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise IntegrityError(f"{path} is damaged ({e}); remove it and run `pam-edge build` again") from e


def stale(bundle: Bundle, graph: str, maker: Maker) -> str | None:
    """Why a graph's engine may not run on `maker`, or None where it may: the first difference, in words."""
    record = read_record(bundle, graph)
    if record is None:
        return "no engine was built"
    if record.source != source_of(bundle.graph(graph)):
        return "its engine was built of other files"
    for field in ("runtime", "version", "gpu", "driver"):
        made, here = getattr(record.maker, field), getattr(maker, field)
        if made != here and not (maker.runtime == "tensorrt_rtx" and field in ("gpu", "driver")):
            return f"its engine was built for {field} {made}, here is {here}"
    path = engine_path(bundle, graph)
    if path.is_symlink() or not path.is_file() or path.stat().st_size != record.bytes:
        return "its engine is missing or cut short"
    return None


def engine_bytes(bundle: Bundle, graph: str, maker: Maker) -> mmap.mmap:
    """A graph's engine, mapped, known to be whole and made for here.

    Raises EnvironmentProblem where it is not for here, IntegrityError where it is damaged.
    """
    reason = stale(bundle, graph, maker)
    if reason is not None:
        raise EnvironmentProblem(
            f"graph {graph}: {reason}; run `pam-edge build {bundle.folder}` on this device"
        )
    path, record = engine_path(bundle, graph), read_record(bundle, graph)
    if record is None or sha256_of(path) != record.sha256:
        raise IntegrityError(f"{path} is damaged (sha256 differs); run `pam-edge build` again")
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
