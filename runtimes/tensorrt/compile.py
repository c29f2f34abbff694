"""Compiles one graph of a bundle into an engine; `pam-edge build` runs it in one process per graph.

TensorRT releases memory only when its process ends, and an 8 GB Jetson has none to spare. Knows TensorRT's
builder, and a graph by its file and signature.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pam_edge.bundle.bundle import Bundle, sha256_of
from pam_edge.bundle.manifest import Graph, Profile
from pam_edge.core.errors import (
    EnvironmentProblem,
    IntegrityError,
    PamEdgeError,
    UsageError,
    WontFitError,
    cannot_write,
)
from pam_edge.runtimes.tensorrt.engine_files import (
    ENGINES,
    TIMING_CACHE,
    Flavour,
    Maker,
    Record,
    engine_path,
    flavour_of,
    package,
    record_path,
    source_of,
)


class Order(msgspec.Struct, frozen=True):
    """What is to be compiled, and how much memory tactics may take (bytes; 0: what the engine thinks fit).

    `capabilities` (SM89, ...) are for TensorRT-RTX on a machine without such a card.
    """

    bundle: str
    graph: str
    workspace: int
    capabilities: tuple[str, ...] = ()


def compile_graph(order: Order, maker: Maker) -> Record:
    """Compile a graph and write engine and record, each whole or not at all.

    Raises IntegrityError where the parser refuses the file, WontFitError for lack of memory,
    EnvironmentProblem where nothing can be written.
    """
    bundle = Bundle.open(order.bundle, check=False)
    graph, flavour = bundle.graph(order.graph), flavour_of(bundle)
    folder = bundle.folder / ENGINES
    started = time.perf_counter()
    try:
        folder.mkdir(exist_ok=True)
        plan = serialized(bundle, graph, order, package(flavour), flavour, folder / TIMING_CACHE)
        path = engine_path(bundle, graph.name)
        record_path(bundle, graph.name).unlink(missing_ok=True)
        _write(path, plan)
        record = Record(
            schema=1,
            graph=graph.name,
            source=source_of(graph),
            maker=maker,
            bytes=path.stat().st_size,
            sha256=sha256_of(path),
            seconds=round(time.perf_counter() - started, 1),
        )
        _write(record_path(bundle, graph.name), msgspec.json.format(msgspec.json.encode(record), indent=1))
    except OSError as e:
        raise cannot_write(folder, e) from e
    return record


def serialized(
    bundle: Bundle, graph: Graph, order: Order, trt: Any, flavour: Flavour, timing: Path
) -> memoryview:
    """The compiled engine's bytes, in the compiler's own memory."""
    logger = _logger(trt)
    builder = trt.Builder(logger)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    path = bundle.path(graph.files[0])
    if not parser.parse_from_file(str(path)):
        errors = "; ".join(str(parser.get_error(i).desc()) for i in range(min(3, parser.num_errors)))
        raise IntegrityError(f"{flavour} {trt.__version__} refuses {path}: {errors}; export the bundle again")
    config = builder.create_builder_config()
    if order.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, order.workspace)
    for profile in graph.profiles:
        config.add_optimization_profile(_shapes(builder.create_optimization_profile(), graph, profile))
    match flavour:
        case "tensorrt":
            known = timing.read_bytes() if timing.is_file() and not timing.is_symlink() else b""
            if not config.set_timing_cache(config.create_timing_cache(known), False):  # of another GPU
                config.set_timing_cache(config.create_timing_cache(b""), False)
        case "tensorrt_rtx":
            chosen = order.capabilities or ("CURRENT",)
            config.num_compute_capabilities = len(chosen)
            for i, name in enumerate(chosen):
                config.set_compute_capability(_capability(trt, name), i)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _refused(f"{flavour} {trt.__version__} cannot compile {path.name}", logger.errors)
    if flavour == "tensorrt":
        _write(timing, memoryview(config.get_timing_cache().serialize()))
    return memoryview(plan)


def _shapes(shapes: Any, graph: Graph, profile: Profile) -> Any:
    """A profile with the extents of every input that has free axes."""
    for spec in graph.inputs:
        if any(isinstance(axis, str) for axis in spec.axes):
            extents = [
                [profile.axes[a][which] if isinstance(a, str) else a for a in spec.axes] for which in range(3)
            ]
            shapes.set_shape(spec.name, *extents)
    return shapes


def _capability(trt: Any, name: str) -> Any:
    found = trt.ComputeCapability.__members__.get(name)
    if found is None:
        known = ", ".join(n for n in trt.ComputeCapability.__members__ if n != "NONE")
        raise UsageError(
            f"compute capability {name!r} is unknown; this version of the compiler knows {known}"
        )
    return found


def _logger(trt: Any) -> Any:
    """Keeps errors for our messages, and says nothing by itself."""

    class Quiet(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.ERROR):
                self.errors.append(text)

    return Quiet()


def _refused(what: str, errors: Sequence[str]) -> PamEdgeError:
    words = " ".join(" ".join(errors[-3:]).split())[:600] or "it gives no reason"
    if "memory" in words.lower():
        return WontFitError(
            f"{what}: {words}; close other programs, or give `pam-edge build --workspace` less"
        )
    if "cuda" in words.lower():
        return EnvironmentProblem(f"{what}: {words}; look whether this machine has a GPU and its driver")
    return IntegrityError(f"{what}: {words}; export the bundle again, or report it")


def _write(path: Path, raw: bytes | memoryview) -> None:
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def main() -> int:
    """`python -m pam_edge.runtimes.tensorrt.compile ORDER MAKER` (JSON): the record, or an error, as JSON."""
    order: Order = msgspec.json.decode(sys.argv[1], type=Order)
    maker: Maker = msgspec.json.decode(sys.argv[2], type=Maker)
    try:
        record = compile_graph(order, maker)
    except PamEdgeError as e:
        print(msgspec.json.encode({"error": str(e), "exit_code": e.exit_code}).decode())  # noqa: T201
        return e.exit_code
    print(msgspec.json.encode(record).decode())  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
