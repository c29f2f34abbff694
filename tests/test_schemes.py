"""Storage in 16 bits: which tensors, how close, and what it refuses."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from pam_edge.core.errors import IntegrityError, UsageError
from pam_edge.quantize.fp16 import halved, store_in_16_bits
from pam_edge.quantize.schemes import Rule, Scheme, scheme_named


def linear(weight: np.ndarray, bias: np.ndarray) -> ir.Model:
    """y = x @ weight + bias, as a model."""
    return ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        graph (float[n, {weight.shape[0]}] x) => (float[n, {weight.shape[1]}] y) {{
            p = MatMul(x, weight)
            y = Add(p, bias)
        }}""",
        initializers=[ir.tensor(weight, name="weight"), ir.tensor(bias, name="bias")],
    )


def test_the_first_rule_that_matches_wins() -> None:
    scheme = Scheme("s", "", (Rule("float32", elements=100), Rule("float16", dimensions=2)))
    assert scheme.storage("decoder", "a", (10, 10)) == "float32"
    assert scheme.storage("decoder", "a", (9, 10)) == "float16"
    assert scheme.storage("decoder", "a", (9,)) == "float32"


def test_rules_choose_graphs_and_tensors_by_pattern() -> None:
    rules = (Rule("q8", tensor="*.down_proj.weight"), Rule("q4", graph="decoder"), Rule("w8a8", graph="*er"))
    scheme = Scheme("s", "", rules)
    assert scheme.storage("decoder", "language.layers.3.mlp.down_proj.weight", (4, 4)) == "q8"
    assert scheme.storage("decoder", "language.layers.3.mlp.up_proj.weight", (4, 4)) == "q4"
    assert scheme.storage("image_encoder", "trunk.weight", (4, 4)) == "w8a8"
    assert scheme.storage("mask", "trunk.weight", (4, 4)) == "float32"
    assert scheme.calibrated


def test_integers_leave_vectors_alone_and_split_language_from_vision() -> None:
    for name, layers in (("int8", "q8"), ("int4", "q4")):
        scheme = scheme_named(name)
        assert scheme.calibrated
        assert scheme.storage("decoder", "language.layers.3.mlp.up_proj.weight", (448, 192)) == layers
        assert scheme.storage("decoder", "language.layers.0.mlp.up_proj.weight", (448, 192)) == "q8"
        assert scheme.storage("decoder", "language.embed_tokens.weight", (2048, 192)) == "q8"
        assert scheme.storage("decoder", "language.norm.weight", (1536,)) == "float32"
        assert scheme.storage("image_encoder", "w", (256, 64)) == "w8a8"
        assert scheme.storage("image_encoder", "w", (1536,)) == "float32"
    assert not any(scheme_named(name).calibrated for name in ("fp32", "fp16"))


def test_an_unknown_scheme_lists_the_known() -> None:
    with pytest.raises(UsageError, match="fp32, fp16"):
        scheme_named("int3")


def test_matrices_are_halved_and_vectors_are_not() -> None:
    rng = np.random.default_rng(0)
    weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((64, 48), (48,)))
    model = linear(weight, bias)
    store_in_16_bits(model, partial(scheme_named("fp16").storage, "g"))
    stored = {name: value.const_value.dtype for name, value in model.graph.initializers.items()}
    assert stored == {"weight.half": ir.DataType.FLOAT16, "bias": ir.DataType.FLOAT}
    x = rng.standard_normal((3, 64)).astype(np.float32)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    (y,) = session.run(None, {"x": x})
    assert np.allclose(y, x @ weight.astype(np.float16).astype(np.float32) + bias, atol=1e-5)
    assert not np.array_equal(y, x @ weight + bias)


def test_fp32_leaves_a_graph_alone() -> None:
    model = linear(np.ones((64, 64), np.float32), np.ones(64, np.float32))
    before = ir.to_proto(model).SerializeToString()
    store_in_16_bits(model, partial(scheme_named("fp32").storage, "g"))
    assert ir.to_proto(model).SerializeToString() == before


def test_a_weight_beyond_float16_is_refused() -> None:
    with pytest.raises(IntegrityError, match=r"gate.*fp32"):
        halved(np.array([1e5], np.float32), "gate")
