"""The lowest version of ONNX Runtime that a bundle says it needs, from graphs of each content."""

from __future__ import annotations

from pathlib import Path

import msgspec
import onnx
import pytest
from onnx import TensorProto, helper
from small_bundle import small_manifest

from pam_edge.bundle.bundle import Bundle
from pam_edge.export.backends.onnxruntime.oldest_engine import oldest_engine

RELU = helper.make_node("Relu", ["x"], ["y"])


def bundle(folder: Path, *nodes: onnx.NodeProto, opset: int = 20, ir: int = 10) -> Bundle:
    """A small bundle, graph `a` of which is of these operators."""
    manifest = small_manifest(folder)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    for name in ("a", "b"):
        graph = helper.make_graph(nodes if name == "a" else [RELU], name, [x], [y])
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir), folder / f"{name}.onnx")
    return Bundle(folder, manifest)


def own(op: str, domain: str = "com.microsoft") -> onnx.NodeProto:
    return helper.make_node(op, ["x"], ["y"], domain=domain)


def test_the_most_demanding_operator_decides(tmp_path: Path) -> None:
    assert oldest_engine(bundle(tmp_path, RELU)) == "1.20"
    assert oldest_engine(bundle(tmp_path, RELU, own("GroupQueryAttention"))) == "1.20"
    assert oldest_engine(bundle(tmp_path, own("GroupQueryAttention"), own("MatMulNBits"))) == "1.22"


def test_an_operator_within_a_branch_counts(tmp_path: Path) -> None:
    branch = helper.make_graph([own("MatMulNBits")], "branch", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    assert oldest_engine(bundle(tmp_path, node)) == "1.22"


@pytest.mark.parametrize("node", [own("Attention"), own("MatMulNBits", "org.other")])
def test_an_operator_that_was_not_tried_is_not_known(tmp_path: Path, node: onnx.NodeProto) -> None:
    assert oldest_engine(bundle(tmp_path, node)) == ""


def test_a_format_that_was_not_tried_is_not_known(tmp_path: Path) -> None:
    assert oldest_engine(bundle(tmp_path, RELU, opset=21)) == ""
    assert oldest_engine(bundle(tmp_path, RELU, ir=11)) == ""


def test_another_engine_is_not_known(tmp_path: Path) -> None:
    made = bundle(tmp_path, RELU)
    manifest = msgspec.structs.replace(made.manifest, runtime="tensorrt")
    assert oldest_engine(Bundle(made.folder, manifest)) == ""
