"""float16 with islands: what overflows, and what leads to a sine, stays float32; borders keep their type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, load, numpy_helper, save
from onnx.reference import ReferenceEvaluator

from pam_edge.core.errors import IntegrityError
from pam_edge.quantize.half import compute_in_16_bits, overflowing, watched, wave_angles
from pam_edge.quantize.observe import Observer

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((8, 8), dtype=np.float32)


def graph(path: Path, *, weight: np.ndarray = WEIGHT) -> Path:
    """x [2, 8] -> loud = x^2 * 3000 -> quiet = loud / 3000 -> y = quiet @ W; wave = sin(x * 501.7)."""
    number = {"loudness": 3000.0, "turns": 501.7}
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"], name="square"),
        helper.make_node("Mul", ["square", "loudness"], ["loud"], name="louder"),
        helper.make_node("Div", ["loud", "loudness"], ["quiet"], name="quieter"),
        helper.make_node("MatMul", ["quiet", "weight"], ["y"], name="product"),
        helper.make_node("Mul", ["x", "turns"], ["angle"], name="angle"),
        helper.make_node("Sin", ["angle"], ["wave"], name="sine"),
    ]
    held = [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in number.items()]
    held.append(numpy_helper.from_array(weight, "weight"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 8]) for name in ("y", "wave")]
    known = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 8])
        for name in ("square", "loud", "quiet", "angle")
    ]
    made = helper.make_graph(nodes, "g", [x], outputs, held, value_info=known)
    save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def run(model: ir.Model | Path, x: np.ndarray) -> list[np.ndarray]:
    """In ONNX's own evaluator: ONNX Runtime on a CPU computes float16 in float32, and rounds less often."""
    given = load(model) if isinstance(model, Path) else ir.to_proto(model)
    with np.errstate(over="ignore", invalid="ignore"):
        return ReferenceEvaluator(given).run(["y", "wave"], {"x": x})


X = np.linspace(-6, 6, 16, dtype=np.float32).reshape(2, 8)


def ranges(path: Path) -> dict[str, tuple[float, float]]:
    seen = Observer(path, watched(ir.load(path)), threads=1).run({"x": X})[1]
    return {name: (each.low, each.high) for name, each in seen.items()}


def test_the_lint_finds_what_comes_near_the_end_of_float16(tmp_path: Path) -> None:
    path = graph(tmp_path / "g.onnx")
    assert overflowing(ir.load(path), ranges(path)) == {"louder", "quieter"}
    assert wave_angles(ir.load(path)) == {"sine", "angle"}
    assert overflowing(ir.load(path), {"y": (np.nan, np.nan)}) == {"product"}


def test_islands_keep_the_numbers_and_all_else_is_float16(tmp_path: Path) -> None:
    path = graph(tmp_path / "g.onnx")
    wanted = run(path, X)
    model = ir.load(path)
    compute_in_16_bits(model, wave_angles(model) | overflowing(model, ranges(path)))
    kinds = {node.name: node.outputs[0].dtype for node in model.graph}
    assert kinds["product"] == kinds["square"] == ir.DataType.FLOAT16
    assert kinds["louder"] == kinds["quieter"] == kinds["sine"] == ir.DataType.FLOAT
    assert model.graph.initializers["weight"].dtype == ir.DataType.FLOAT16
    assert {value.dtype for value in (*model.graph.inputs, *model.graph.outputs)} == {ir.DataType.FLOAT}
    for found, true in zip(run(model, X), wanted, strict=True):
        np.testing.assert_allclose(found, true, atol=2e-3 * np.abs(true).max())


@pytest.mark.parametrize("left_out", ["louder", "angle"])
def test_without_an_island_the_numbers_are_off(tmp_path: Path, left_out: str) -> None:
    path = graph(tmp_path / "g.onnx")
    model = ir.load(path)
    compute_in_16_bits(model, (wave_angles(model) | overflowing(model, ranges(path))) - {left_out})
    pairs = zip(run(model, X), run(path, X), strict=True)
    assert any(not np.allclose(found, true, atol=2e-3 * np.abs(true).max()) for found, true in pairs)


def test_a_weight_beyond_float16_makes_its_node_an_island_or_is_refused(tmp_path: Path) -> None:
    path = graph(tmp_path / "g.onnx", weight=WEIGHT * np.float32(1e6))
    model = ir.load(path)
    assert "product" in overflowing(model, {})
    with pytest.raises(IntegrityError, match="float16"):
        compute_in_16_bits(model, frozenset())
