"""The lowest version of ONNX Runtime that opens a bundle and gives its numbers, derived from its graphs.

It follows from the IR version, the operator sets and ONNX Runtime's own operators in the files. Each version
listed here is the lowest in which nano's bundles with that content passed `pam-edge verify`: 1.17.3, 1.18.1,
1.19.2, 1.20.1, 1.21.1, 1.22.0 and later ones were tried (Linux x86-64, Python 3.11). Python, the JVM and the
browser share one numbering.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from pam_edge.bundle.bundle import Bundle

Version = tuple[int, int]
_OWN = "com.microsoft"
# IR 10 and opset 20. 1.17 refuses IR 10; 1.18 and 1.19 open the float decoder and give other numbers.
_FORMAT: Version = (1, 20)
_IR, _OPSET = 10, 20
# 8-bit blocks: 1.21 refuses them. MatMulIntegerToFloat: in bundles that have those, so not tried below.
_OPERATORS: dict[str, Version] = {
    "GroupQueryAttention": (1, 20),
    "MultiHeadAttention": (1, 20),
    "SkipSimplifiedLayerNormalization": (1, 20),
    "MatMulIntegerToFloat": (1, 22),
    "MatMulNBits": (1, 22),
}


def oldest_engine(bundle: Bundle) -> str:
    """As in "1.22"; "" where it is not known: another engine, or contents that were not tried."""
    if bundle.manifest.runtime != "onnxruntime":
        return ""
    found = [_FORMAT]
    for graph in bundle.manifest.graphs:
        model = onnx.load(bundle.path(graph.files[0]), load_external_data=False)
        if model.ir_version > _IR or any(o.domain == "" and o.version > _OPSET for o in model.opset_import):
            return ""
        for node in _nodes(model):
            if node.domain in ("", "ai.onnx"):
                continue
            if node.domain != _OWN or node.op_type not in _OPERATORS:
                return ""
            found.append(_OPERATORS[node.op_type])
    return ".".join(map(str, max(found)))


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Of the graph, its functions, and what their operators hold."""
    waiting = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            waiting += attribute.g.node
            for inner in attribute.graphs:
                waiting += inner.node
