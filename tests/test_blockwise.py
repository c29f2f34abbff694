"""Weights in blocks: packing and arithmetic as the engine has them, errors below nearest rounding."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    DefaultWeightOnlyQuantizer,
)

from pam_edge.core.errors import IntegrityError
from pam_edge.quantize.blockwise import Blocks, block_size, dequantize, packed, quantize, rounded


def weight(out: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((out, width), dtype=np.float32)


def nearest(w: np.ndarray, bits: int) -> Blocks:
    """The engine's own quantizer: every block's largest value decides its scale."""
    config = DefaultWeightOnlyQuantConfig(block_size(w.shape[1]), is_symmetric=True, bits=bits)
    codes, scales, _ = DefaultWeightOnlyQuantizer(config).qbits_block_quant(np.ascontiguousarray(w.T))
    return Blocks(codes, scales, bits, block_size(w.shape[1]))


def through_engine(x: np.ndarray, blocks: Blocks, width: int, level: int) -> np.ndarray:
    node = helper.make_node(
        "MatMulNBits",
        ["x", "codes", "scales"],
        ["y"],
        domain="com.microsoft",
        K=width,
        N=len(blocks.codes),
        bits=blocks.bits,
        block_size=blocks.block,
        accuracy_level=level,
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, len(blocks.codes)])],
        [
            numpy_helper.from_array(blocks.codes, "codes"),
            numpy_helper.from_array(blocks.scales, "scales"),
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("width", [256, 192, 48])  # blocks of 128, of 32, and one that is not full
def test_the_engine_reads_them_as_we_do(bits: int, width: int) -> None:
    w, x = weight(40, width), weight(5, width, seed=1)
    blocks = quantize(w, bits=bits)
    wanted = x @ dequantize(blocks, width).T
    np.testing.assert_allclose(through_engine(x, blocks, width, 0), wanted, atol=1e-4)
    np.testing.assert_allclose(through_engine(x, blocks, width, 4), wanted, atol=0.02 * np.abs(wanted).max())


@pytest.mark.parametrize("width", [256, 192, 48])
def test_eight_bits_are_the_engines_own(width: int) -> None:
    """One byte's rounding apart: its quantizer computes the scale's inverse in another order."""
    w = weight(40, width)
    ours, theirs = quantize(w, bits=8), nearest(w, 8)
    np.testing.assert_allclose(ours.scales, theirs.scales, rtol=1e-6)
    apart = np.abs(dequantize(ours, width) - dequantize(theirs, width))
    assert (apart > 1e-5).mean() < 1e-3
    assert apart.max() < 1.01 * np.abs(ours.scales).max()


@pytest.mark.parametrize(("width", "share"), [(256, 0.9), (192, 0.95)])
def test_four_bits_beat_nearest_rounding(width: int, share: float) -> None:
    w = weight(400, width)
    ours, theirs = (dequantize(b, width) - w for b in (quantize(w, bits=4), nearest(w, 4)))
    assert (ours**2).sum() < share * (theirs**2).sum()


def test_importance_moves_the_error_to_where_it_matters_least() -> None:
    w, matters = weight(200, 256), np.random.default_rng(1).random(256).astype(np.float32) ** 4
    plain, weighed = (dequantize(quantize(w, bits=4, importance=i), 256) - w for i in (None, matters))
    assert (weighed**2 * matters).sum() < 0.97 * (plain**2 * matters).sum()


def test_integers_in_range_come_back_exactly() -> None:
    rng = np.random.default_rng(0)
    for bits, half in ((4, 8), (8, 128)):
        q = rng.integers(-half, half, (6, 2, 128)).astype(np.float32)
        q[..., 0] = -half
        scale = rng.uniform(0.5, 2, (6, 2)).astype(np.float32)
        scale[0] *= -1
        w = (q * scale[..., None]).reshape(6, 256)
        np.testing.assert_allclose(dequantize(quantize(w, bits=bits), 256), w, rtol=1e-6)
        codes = packed(rounded(w.reshape(q.shape), scale, bits=bits), bits=bits)
        np.testing.assert_array_equal(dequantize(Blocks(codes, scale, bits, 128), 256), w)


def test_zeros_stay_zeros() -> None:
    for bits in (4, 8):
        assert not dequantize(quantize(np.zeros((3, 64), np.float32), bits=bits), 64).any()


def test_what_is_not_finite_is_named() -> None:
    w = weight(3, 64)
    w[1, 5] = np.nan
    with pytest.raises(IntegrityError, match=r"gate_proj.*not finite"):
        quantize(w, bits=4, name="gate_proj")
