"""Engines behind two small interfaces: `Session` for stateless graphs, `Decoder` for the language model.

One engine a file; the engine's package is imported there and nowhere else. A bundle names its runtime,
`open_session` and `open_decoder` pick the file. Nothing here knows images, prompts or text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import EnvironmentProblem

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class Session(Protocol):
    """A stateless graph, ready to run."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Named inputs to named outputs, shapes and dtypes as in the bundle's TensorSpecs."""
        ...


class Decoder(Protocol):
    """The language model with a cache it owns: `rows` sequences that grow side by side.

    Every method that returns logits returns [rows, vocabulary] float32 for each row's last position.
    """

    @property
    def lengths(self) -> tuple[int, ...]:
        """Positions held in the cache, per row."""
        ...

    def prefill(self, embeds: Sequence[Floats]) -> Floats:
        """Append embeddings, one [T_i, hidden] array per row (T_i >= 1, may differ between rows).

        Raises WontFitError where a row would pass the bundle's `max_length`.
        """
        ...

    def step(self, tokens: Sequence[int]) -> Floats:
        """Append one token per row. Raises like `prefill`."""
        ...

    def branch(self, rows: int) -> Decoder:
        """A new decoder of `rows` rows, each a copy of this one's single row; this one is left as it is."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row not listed; the rest are renumbered in the order given."""
        ...

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on, in every row: as if they had never been appended."""
        ...

    def embed(self, tokens: Sequence[int]) -> Floats:
        """Rows of the token embedding, [len(tokens), hidden] float32."""
        ...


def open_session(bundle: Bundle, graph: str, *, threads: int = 0) -> Session:
    """Open one stateless graph in the bundle's own runtime. `threads` 0 lets the engine choose.

    Raises EnvironmentProblem where that engine is unknown or absent, IntegrityError where it refuses the
    file.
    """
    match bundle.manifest.runtime:
        case "onnxruntime":
            from pam_edge.runtimes.onnxruntime.session import OrtSession

            return OrtSession(bundle, graph, threads=threads)
        case "tensorrt" | "tensorrt_rtx":
            from pam_edge.runtimes.tensorrt.session import TrtSession

            return TrtSession(bundle, graph)
        case "executorch" | "executorch_vulkan":
            from pam_edge.runtimes.executorch.session import EtSession

            return EtSession(bundle, graph, threads=threads)
        case "coreml":
            from pam_edge.runtimes.coreml.session import CoremlSession

            return CoremlSession(bundle, graph, threads=threads)
        case other:
            raise EnvironmentProblem(f"runtime {other!r} is unknown to this version of pam-edge; update it")


def open_decoder(bundle: Bundle, *, threads: int = 0) -> Decoder:
    """Open the language decoder in the bundle's runtime, with one empty row. Raises like `open_session`."""
    match bundle.manifest.runtime:
        case "onnxruntime":
            from pam_edge.runtimes.common.plain_cache import is_plain, plain_decoder
            from pam_edge.runtimes.onnxruntime.session import OrtDecoder, OrtSession

            if is_plain(bundle.graph("decoder")):
                return plain_decoder(bundle, OrtSession(bundle, "decoder", threads=threads))
            return OrtDecoder(bundle, threads=threads)
        case "tensorrt" | "tensorrt_rtx":
            from pam_edge.runtimes.tensorrt.decoder import TrtDecoder

            return TrtDecoder(bundle)
        case "executorch" | "executorch_vulkan":
            from pam_edge.runtimes.executorch.session import EtDecoder

            return EtDecoder(bundle, threads=threads)
        case "coreml":
            from pam_edge.runtimes.coreml.session import CoremlDecoder

            return CoremlDecoder(bundle, threads=threads)
        case other:
            raise EnvironmentProblem(f"runtime {other!r} is unknown to this version of pam-edge; update it")


def opens_concurrently(runtime: str) -> bool:
    """Whether an engine is known to open one graph while another runs. ExecuTorch is known not to: its one
    pool of threads is replaced when a graph is opened with a number of them.
    """
    return runtime == "onnxruntime"


def check_engine(runtime: str) -> None:
    """Raise EnvironmentProblem where an engine of that name is not on this machine."""
    match runtime:
        case "onnxruntime":
            import pam_edge.runtimes.onnxruntime.session
        case "tensorrt" | "tensorrt_rtx":
            from pam_edge.runtimes.tensorrt.engine_files import package

            package(runtime)
        case "executorch" | "executorch_vulkan":
            from pam_edge.runtimes.executorch.session import check_backend

            check_backend(runtime)
        case "coreml":
            import pam_edge.runtimes.coreml.session  # noqa: F401
        case other:
            raise EnvironmentProblem(f"runtime {other!r} is unknown to this version of pam-edge; update it")


# Distributions that an engine comes in, and whether it computes on the CPU: its integers then depend on it.
_PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx",),
    "executorch": ("executorch",),
    "executorch_vulkan": ("executorch",),
    "coreml": ("coremltools",),
}
_ON_CPU = ("onnxruntime", "executorch")


def engine_version(runtime: str) -> str | None:
    """The version of the package that an engine comes in, which is not imported; None where not told."""
    for package in _PACKAGES.get(runtime, ()):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None


def computes_on_cpu(runtime: str) -> bool:
    """Whether an engine's numbers depend on the kind of CPU."""
    return runtime in _ON_CPU
