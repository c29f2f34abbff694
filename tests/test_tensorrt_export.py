"""`pam-edge export --target jetson`: files that TensorRT's parser takes, rehearsed in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from command import pam_edge

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Verification

SCHEME = "int4"  # the default: its bundle has every form that TensorRT's files take


@pytest.fixture(scope="module")
def jetson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jetson") / "nano"
    result = pam_edge("export", "--target", "jetson", "--weights", "random:nano", "-o", folder)
    assert result.code == 0, result.err
    assert "tensorrt: not run here" in result.out
    return folder


@pytest.mark.slow
def test_the_bundle_is_for_the_device_and_says_what_was_run_where(jetson: Path) -> None:
    manifest = Bundle.open(jetson).manifest
    assert (manifest.target, manifest.runtime, manifest.scheme) == ("jetson-orin-nano", "tensorrt", SCHEME)
    assert manifest.verification is None
    assert isinstance(manifest.rehearsal, Verification)
    assert manifest.rehearsal.ok and manifest.rehearsal.runtime == "onnxruntime"
    assert any(check.measure.startswith("weights: noise") for check in manifest.rehearsal.checks)
    assert {graph.name for graph in manifest.graphs if graph.profiles} == {
        "mask_decoder",
        "memory_attention",
        "decoder",
    }
    assert {path.name for path in jetson.iterdir()} == {*manifest.files(), "bundle.json"}
    shown = pam_edge("inspect", jetson).out
    assert "verification: not run" in shown and "rehearsal of the same files: ok, onnxruntime" in shown


@pytest.mark.slow
def test_the_files_are_what_the_parser_takes(jetson: Path) -> None:
    bundle = Bundle.open(jetson, check=False)
    norms, pairs = 0, 0
    for graph in bundle.manifest.graphs:
        model = onnx.load(bundle.path(graph.files[0]))
        assert [opset.domain for opset in model.opset_import] == [""], graph.name
        assert model.opset_import[0].version == (21 if graph.name == "decoder" else 20)
        kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
        values = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            assert not node.domain, (graph.name, node.op_type)
            norms += node.op_type == "LayerNormalization"
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                pairs += node.op_type == "QuantizeLinear"
                assert (
                    kinds[node.input[1]] == onnx.TensorProto.FLOAT16
                )  # scales: of the type that is computed in
                assert kinds.get(node.input[0], onnx.TensorProto.INT8) != onnx.TensorProto.INT32  # no biases
                for zero in node.input[2:]:
                    assert not onnx.numpy_helper.to_array(values[zero]).any()
    assert norms > 30, "no norm came apart"
    assert pairs > 10


def test_a_scheme_the_device_has_no_memory_for_is_refused(tmp_path: Path) -> None:
    words = ("export", "--target", "jetson", "--weights", "random:pam-3b", "--scheme", "fp32")
    result = pam_edge(*words, "--dry-run", "-o", tmp_path / "out")
    assert result.code == 7
    assert "leaves a process 6.0 GB" in result.err and "smaller scheme" in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["iphone-of-glass", "jetson-nano"])
def test_an_unknown_device_lists_the_known(target: str) -> None:
    result = pam_edge("export", "--target", target)
    assert result.code == 2
    assert "jetson-orin-nano, jetson" in result.err
