"""One TensorRT or TensorRT-RTX engine and its calls: an execution context and the device memory bound to it.

Knows bundles and these engines, neither what graphs mean nor caches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Graph, TensorSpec
from pam_edge.core.errors import EnvironmentProblem, WontFitError
from pam_edge.runtimes.common.session import Array
from pam_edge.runtimes.tensorrt.build import maker_here
from pam_edge.runtimes.tensorrt.cuda import Buffer, Stream
from pam_edge.runtimes.tensorrt.engine_files import engine_bytes, flavour_of, package


class Engine:
    """A deserialized engine, and what keeps it alive."""

    def __init__(self, bundle: Bundle, graph: Graph) -> None:
        self.graph = graph
        maker = maker_here(bundle)
        plan = engine_bytes(bundle, graph.name, maker)
        self.flavour = flavour_of(bundle)
        self.trt = package(self.flavour)
        self._runtime = self.trt.Runtime(self.trt.Logger(self.trt.Logger.ERROR))
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise EnvironmentProblem(
                f"the engine of {graph.name} does not open; run `pam-edge build --force`"
            )

    def context(self) -> Any:
        """An execution context. TensorRT-RTX's records by itself; its streams cannot all be recorded."""
        if self.flavour == "tensorrt":
            return self.engine.create_execution_context()
        config = self.engine.create_runtime_config()
        config.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return self.engine.create_execution_context(config)


class Call:
    """One execution context and the buffers bound to it."""

    def __init__(self, engine: Engine, profile: int, stream: Stream) -> None:
        self._engine, self._stream = engine, stream
        self.buffers: dict[str, Buffer] = {}
        self.context: Any = engine.context()
        if self.context is None:
            raise WontFitError(
                f"no memory on the GPU to run {engine.graph.name}; close programs or use a smaller variant"
            )
        if engine.graph.profiles:
            self.context.set_optimization_profile_async(profile, stream.handle)
            stream.wait()

    def feed(self, spec: TensorSpec, values: Array) -> None:
        """An input from the host; `values` must live until the stream is waited for."""
        buffer = self._room(spec.name, values.nbytes)
        self._stream.upload(buffer, values)
        self.lend(spec, values.shape, buffer.address)

    def lend(self, spec: TensorSpec, shape: Sequence[int], address: int) -> None:
        """An input that lies on the GPU."""
        self.context.set_input_shape(spec.name, tuple(shape))
        self.context.set_tensor_address(spec.name, address)

    def give(self, spec: TensorSpec, size: int) -> None:
        """Room for an output."""
        self.context.set_tensor_address(spec.name, self._room(spec.name, size).address)

    def run(self) -> None:
        """Put the engine's work on the stream."""
        if not self.context.execute_async_v3(self._stream.handle):
            raise EnvironmentProblem(f"graph {self._engine.graph.name} failed on the GPU")

    def read(self, name: str, values: Array) -> None:
        """An output to the host, there after the stream is waited for."""
        self._stream.download(values, self.buffers[name])

    def _room(self, name: str, size: int) -> Buffer:
        held = self.buffers.get(name)
        if held is None or held.bytes < size:
            held = self.buffers[name] = Buffer.of(size)
        return held


def shape_of(spec: TensorSpec, axes: Mapping[str, int]) -> tuple[int, ...]:
    """A tensor's shape where every free axis is known."""
    return tuple(axes[axis] if isinstance(axis, str) else axis for axis in spec.axes)


def empty(spec: TensorSpec, axes: Mapping[str, int]) -> Array:
    """Room for such a tensor on the host."""
    return np.empty(shape_of(spec, axes), spec.dtype)
