"""TensorRT and TensorRT-RTX on an NVIDIA GPU: one stateless graph as a compiled engine.

Engines come from `pam-edge build`; the decoder is in `decoder.py`. Knows bundles and these engines, no
prompts and no text.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Graph
from pam_edge.core.errors import UsageError
from pam_edge.runtimes.common.checks import check_feeds
from pam_edge.runtimes.common.session import Array
from pam_edge.runtimes.tensorrt.call import Call, Engine, empty
from pam_edge.runtimes.tensorrt.cuda import Stream


class TrtSession:
    """`Session` of one graph of a bundle. Raises EnvironmentProblem where its engine is not for here."""

    def __init__(self, bundle: Bundle, graph: str) -> None:
        self._graph = bundle.graph(graph)
        self._stream = Stream()
        self._engine = Engine(bundle, self._graph)
        self._call = Call(self._engine, 0, self._stream)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Named inputs to named outputs. Raises UsageError for feeds that the engine is not built for."""
        check_feeds(self._graph, feeds)
        axes = _extents(self._graph, feeds)
        check_profile(self._graph, axes)
        given = [np.ascontiguousarray(feeds[spec.name]) for spec in self._graph.inputs]  # live until `wait`
        for spec, values in zip(self._graph.inputs, given, strict=True):
            self._call.feed(spec, values)
        outputs = {spec.name: empty(spec, axes) for spec in self._graph.outputs}
        for spec in self._graph.outputs:
            self._call.give(spec, outputs[spec.name].nbytes)
        self._call.run()
        for name, array in outputs.items():
            self._call.read(name, array)
        self._stream.wait()
        return outputs


def check_profile(graph: Graph, axes: Mapping[str, int]) -> None:
    """Raise UsageError where an extent lies outside what the engine was built for."""
    for profile in graph.profiles[:1]:
        for axis, (least, _, most) in profile.axes.items():
            if axis in axes and not least <= axes[axis] <= most:
                raise UsageError(f"graph {graph.name} takes {least} to {most} {axis}, got {axes[axis]}")


def _extents(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, int]:
    """Every free axis as these feeds have it."""
    return {
        axis: extent
        for spec in graph.inputs
        for axis, extent in zip(spec.axes, feeds[spec.name].shape, strict=True)
        if isinstance(axis, str)
    }
