"""TensorRT's decoder file: standard operators alone, integers as they are meant, in every scheme."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from fake_tensorrt import cached_bundle
from reference_session import ReferenceSession
from tiny_language import TINY, tiny_weights

from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import IntegrityError
from pam_edge.export.backends.tensorrt.decoder import language2cached, planned_matrices
from pam_edge.export.backends.tensorrt.weights import positive_scales, read_outputs
from pam_edge.export.checkpoint.keys import EMBED_TOKENS
from pam_edge.quantize.blockwise import fitted_scales, rounded
from pam_edge.quantize.schemes import scheme_named
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.kv_decoder import KvDecoder
from pam_edge.runtimes.common.registry import open_decoder
from pam_edge.verify.error_metrics import noise

WIDE = msgspec.structs.replace(TINY, hidden_size=128, mlp=192, vocab_size=301)  # rows that blocks divide
SCHEMES = ("fp32", "fp16", "int8", "int4")
HALF = 0.02  # noise of logits that float16 products make of this model; 0.011 was measured


def logits(bundle: Bundle) -> np.ndarray:
    manifest = msgspec.structs.replace(bundle.manifest, runtime="onnxruntime")
    decoder = open_decoder(Bundle(bundle.folder, manifest), threads=1)
    rng = np.random.default_rng(5)
    decoder.prefill([rng.standard_normal((40, WIDE.hidden_size), dtype=np.float32)])
    return decoder.prefill([rng.standard_normal((3, WIDE.hidden_size), dtype=np.float32)])[0]


@pytest.mark.parametrize("name", SCHEMES)
def test_onnx_runtime_computes_with_the_stored_weights(tmp_path: Path, name: str) -> None:
    """Against the reference on what the file stands for: integers, scales, blocks mean what they say."""
    scheme, weights = scheme_named(name), tiny_weights(WIDE)
    found = logits(cached_bundle(tmp_path / "b", scheme, WIDE))
    for matrix in planned_matrices(WIDE, scheme):
        weights[matrix.key] = read_outputs(tmp_path / "b", "decoder.bin", matrix, slice(None))
    reference = KvDecoder(ReferenceSession(WIDE, weights), WIDE, TokenTable(weights[EMBED_TOKENS]))
    rng = np.random.default_rng(5)
    reference.prefill([rng.standard_normal((40, WIDE.hidden_size), dtype=np.float32)])
    wanted = reference.prefill([rng.standard_normal((3, WIDE.hidden_size), dtype=np.float32)])[0]
    assert noise(found, wanted) <= (HALF if name != "fp32" else 1e-5)


@pytest.mark.parametrize("name", SCHEMES)
def test_the_file_has_standard_operators_and_symmetric_integers_alone(tmp_path: Path, name: str) -> None:
    bundle = cached_bundle(tmp_path / "b", scheme_named(name), WIDE)
    model = onnx.load(tmp_path / "b" / "decoder.onnx", load_external_data=False)
    assert {opset.domain for opset in model.opset_import} == {""}
    assert not {node.domain for node in model.graph.node} - {""}
    widened = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert all(len(node.input) == 2 for node in widened), "no zero points"
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    stored = {kinds[node.input[0]] for node in widened}
    integer = {"int8": {onnx.TensorProto.INT8}, "int4": {onnx.TensorProto.INT8, onnx.TensorProto.INT4}}
    assert stored == integer.get(name, set())
    onnx.checker.check_model(str(bundle.path(bundle.graph("decoder").files[0])))


def test_stored_weights_are_the_weights(tmp_path: Path) -> None:
    scheme, weights = scheme_named("int4"), tiny_weights(WIDE)
    cached_bundle(tmp_path / "b", scheme, WIDE)
    kinds = set()
    for matrix in planned_matrices(WIDE, scheme):
        found = read_outputs(tmp_path / "b", "decoder.bin", matrix, slice(3, 21))
        limit = 0.2 if matrix.held.kind == "int4" else 0.02
        assert max(noise(a, b) for a, b in zip(found, weights[matrix.key][3:21], strict=True)) < limit
        kinds.add(matrix.held.kind)
    assert kinds == {"int4", "int8"}


def test_scales_are_positive_and_no_worse_than_the_range(tmp_path: Path) -> None:
    values = np.random.default_rng(1).standard_normal((9, 3, 64), dtype=np.float32)
    scales = positive_scales(values)
    assert scales.min() > 0
    q = rounded(values, scales, bits=4)
    assert q.min() >= -8 and q.max() <= 7
    assert np.abs(q * scales[..., None] - values).max() <= np.abs(values).max() * 0.2


def test_scales_are_the_best_above_zero_and_not_others_made_positive() -> None:
    values = np.random.default_rng(2).standard_normal((200, 3, 64), dtype=np.float32)
    signed = fitted_scales(values, bits=4)
    stretched = np.where(signed < 0, signed * np.float32(-8 / 7), signed)  # 7 reaches as far as -8 did

    def lost(scales: np.ndarray) -> float:
        return float(((rounded(values, scales, bits=4) * scales[..., None] - values) ** 2).sum())

    assert lost(signed) < lost(positive_scales(values)) < 0.97 * lost(stretched)


def test_a_weight_that_is_no_number_is_refused(tmp_path: Path) -> None:
    weights = tiny_weights(TINY)
    weights["language.layers.1.mlp.up_proj.weight"][3, 5] = np.nan
    with pytest.raises(IntegrityError, match=r"layers\.1\.mlp\.up_proj"):
        language2cached(TINY, weights.__getitem__, tmp_path, scheme=scheme_named("int4"))
