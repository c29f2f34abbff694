"""The registry of engines: one record each, which says how to open the graphs of a bundle.

Modules are given by dotted path and imported when first used, so reading a record imports neither the engine
nor its package. Knows no images, prompts or text.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol, cast

from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import EnvironmentProblem
from pam_edge.runtimes.common.session import Decoder, Session


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """One engine: its name in bundle.json, and where everything that belongs to it lies."""

    name: str
    opener: str  # module with the functions of `Opener`
    writer: str  # module with the members of export's `Writer`; imported by `export` alone
    packages: tuple[str, ...]  # distributions it comes in; the first that is installed tells its version
    extra: str = ""  # of pam-edge, which installs it; "" where pip does not, or where it always comes along
    on_cpu: bool = False  # its numbers depend on the kind of CPU
    concurrent: bool = False  # known to open one graph while another runs


ENGINES: tuple[EngineRecord, ...] = (
    EngineRecord(
        name="onnxruntime",
        opener="pam_edge.runtimes.onnxruntime.engine",
        writer="pam_edge.export.backends.onnxruntime.writer",
        packages=("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
        on_cpu=True,
        concurrent=True,
    ),
    EngineRecord(
        name="tensorrt",
        opener="pam_edge.runtimes.tensorrt.engine",
        writer="pam_edge.export.backends.tensorrt.writer",
        packages=("tensorrt",),
    ),
    EngineRecord(
        name="tensorrt_rtx",
        opener="pam_edge.runtimes.tensorrt.engine",
        writer="pam_edge.export.backends.tensorrt.writer",
        packages=("tensorrt_rtx",),
    ),
    # Not concurrent: its one pool of threads is replaced when a graph is opened with a number of them.
    EngineRecord(
        name="executorch",
        opener="pam_edge.runtimes.executorch.engine",
        writer="pam_edge.export.backends.executorch.writer",
        packages=("executorch",),
        extra="android",
        on_cpu=True,
    ),
    EngineRecord(
        name="executorch_vulkan",
        opener="pam_edge.runtimes.executorch.engine",
        writer="pam_edge.export.backends.executorch.vulkan_writer",
        packages=("executorch",),
        extra="android",
    ),
    EngineRecord(
        name="coreml",
        opener="pam_edge.runtimes.coreml.engine",
        writer="pam_edge.export.backends.coreml.writer",
        packages=("coremltools",),
        extra="apple",
    ),
)


class Opener(Protocol):
    """The functions of an engine's module `engine`."""

    def open_session(self, bundle: Bundle, graph: str, *, threads: int) -> Session:
        """A stateless graph. `threads` 0 lets the engine choose; an engine on a GPU ignores it."""
        ...

    def open_decoder(self, bundle: Bundle, *, threads: int) -> Decoder:
        """The language decoder with one empty row."""
        ...

    def check_here(self, runtime: str) -> None:
        """Raise EnvironmentProblem where the engine, under that name, cannot run on this machine."""
        ...


def engine_named(runtime: str) -> EngineRecord:
    """The record of that name. Raises EnvironmentProblem where this version knows none."""
    if (record := _find(runtime)) is not None:
        return record
    raise EnvironmentProblem(f"runtime {runtime!r} is unknown to this version of pam-edge; update it")


def open_session(bundle: Bundle, graph: str, *, threads: int = 0) -> Session:
    """Open one stateless graph in the bundle's own runtime. `threads` 0 lets the engine choose.

    Raises EnvironmentProblem where that engine is unknown or absent, IntegrityError where it refuses the
    file.
    """
    return _opener(bundle.manifest.runtime).open_session(bundle, graph, threads=threads)


def open_decoder(bundle: Bundle, *, threads: int = 0) -> Decoder:
    """Open the language decoder in the bundle's runtime, with one empty row. Raises like `open_session`."""
    return _opener(bundle.manifest.runtime).open_decoder(bundle, threads=threads)


def check_engine(runtime: str) -> None:
    """Raise EnvironmentProblem where an engine of that name is not on this machine."""
    _opener(runtime).check_here(runtime)


def opens_concurrently(runtime: str) -> bool:
    """Whether an engine is known to open one graph while another runs."""
    return engine_named(runtime).concurrent


def engine_version(runtime: str) -> str | None:
    """The version of the package that an engine comes in, which is not imported; None where it is absent, or
    the engine unknown.
    """
    record = _find(runtime)
    for package in () if record is None else record.packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def computes_on_cpu(runtime: str) -> bool:
    """Whether an engine's numbers depend on the kind of CPU."""
    record = _find(runtime)
    return record is not None and record.on_cpu


def _find(runtime: str) -> EngineRecord | None:
    return next((record for record in ENGINES if record.name == runtime), None)


def _opener(runtime: str) -> Opener:
    return cast("Opener", import_module(engine_named(runtime).opener))
