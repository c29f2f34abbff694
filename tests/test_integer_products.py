"""8-bit products at their extremes, through every integer operator a bundle may hold, against exact ones.

On a CPU with VNNI nothing saturates anyway; `integer_replay.py` runs the same cases under emulated CPUs.
"""

from __future__ import annotations

import platform
from pathlib import Path

import integer_cases
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from integer_replay import ROUNDED, Outcome, replay

from pam_edge.core.errors import EnvironmentProblem
from pam_edge.quantize.static import integer_weight
from pam_edge.runtimes.onnxruntime import integer_products
from pam_edge.runtimes.onnxruntime.integer_products import (
    NO_KLEIDIAI,
    PROBE,
    TO_UNSIGNED,
    keep_exact,
    saturates,
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    integer_cases.write_cases(folder)
    return folder


@pytest.fixture
def overflowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU whose kernels saturate."""
    monkeypatch.setattr(integer_products, "saturates", lambda: True)


def off(outcomes: list[Outcome]) -> list[str]:
    bound = 0.0 if platform.machine() in ("x86_64", "AMD64") else ROUNDED
    return [
        f"{case.name}: {case.wrong} of {case.of}, {case.worst}" for case in outcomes if case.worst > bound
    ]


def test_every_operator_is_exact_on_this_cpu(cases: Path) -> None:
    outcomes = list(replay(cases, keep_exact))
    assert len(outcomes) > 50
    assert off(outcomes) == []


def test_the_form_for_cpus_that_saturate_is_exact_too(cases: Path, overflowing: None) -> None:
    assert off(list(replay(cases, keep_exact))) == []


def test_without_the_option_the_cases_show_whether_this_cpu_saturates(cases: Path) -> None:
    """The probe asks for one product; it must tell what becomes of all of them."""
    assert bool(off(list(replay(cases, lambda options, graph: None)))) == saturates()


def test_a_saturated_product_would_be_seen(cases: Path) -> None:
    """What VPMADDUBSW gives for the first layer: pairs of products cut to 16 bits."""
    graph = onnx.load(cases / "static_fused_product_64_zero0.onnx").graph
    (weight,) = (onnx.numpy_helper.to_array(t) for t in graph.initializer if t.name == "layer.weight.q")
    with np.load(cases / "static_fused_product_64_zero0.npz") as held:
        x, y = held["x"].astype(np.int64), held["y"]
    products = x[:, :, None] * weight.astype(np.int64)
    np.testing.assert_array_equal(products.sum(1), y)
    pairs = (products[:, ::2] + products[:, 1::2]).clip(-32768, 32767)
    assert (pairs.sum(1) != y).mean() > 0.3


def test_the_probe_is_what_it_says() -> None:
    model = onnx.load_from_string(PROBE)
    onnx.checker.check_model(model, full_check=True)
    (node,) = model.graph.node
    assert node.op_type == "MatMulInteger"
    kinds = [value.type.tensor_type.elem_type for value in model.graph.input]
    assert kinds == [onnx.TensorProto.UINT8, onnx.TensorProto.INT8]


@pytest.mark.parametrize("overflow", [False, True])
def test_sessions_are_changed_only_where_products_saturate(
    monkeypatch: pytest.MonkeyPatch, overflow: bool
) -> None:
    monkeypatch.setattr(integer_products, "saturates", lambda: overflow)
    options = ort.SessionOptions()
    keep_exact(options)
    if overflow:
        assert options.get_session_config_entry(TO_UNSIGNED) == "1"
    else:
        with pytest.raises(RuntimeError, match=TO_UNSIGNED):
            options.get_session_config_entry(TO_UNSIGNED)


@pytest.mark.parametrize(
    ("machine", "name", "changed"),
    [
        ("aarch64", "matmulnbits_4bits_block32", True),
        ("arm64", "matmulnbits_4bits_block32", True),
        ("aarch64", "static_fused_product_64_zero0", False),  # elsewhere those kernels are only faster
        ("x86_64", "matmulnbits_4bits_block32", False),
    ],
)
def test_blocks_are_rounded_on_arm_as_everywhere(
    cases: Path, monkeypatch: pytest.MonkeyPatch, machine: str, name: str, changed: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    options = ort.SessionOptions()
    keep_exact(options, cases / f"{name}.onnx")
    if changed:
        assert options.get_session_config_entry(NO_KLEIDIAI) == "1"
    else:
        with pytest.raises(RuntimeError, match=NO_KLEIDIAI):
            options.get_session_config_entry(NO_KLEIDIAI)


def test_no_weight_is_stored_as_the_least_integer() -> None:
    """ARM without dot product adds two products in 16 bits: twice -128 x -128 is one too large."""
    weights = np.random.default_rng(0).standard_normal((64, 300), dtype=np.float32)
    weights[0] = -np.abs(weights).max(axis=0)
    assert integer_weight(weights)[0].min() == -127


@pytest.mark.parametrize(
    ("version", "name", "refused"),
    [
        ("1.29.0", "static_fused_product_64_zero0", True),
        ("1.23.2", "matmulnbits_4bits_block32", False),
        ("1.30.0", "static_fused_product_64_zero0", False),
        ("1.100.0.dev1", "static_fused_product_64_zero0", False),
    ],
)
def test_an_engine_too_old_to_avoid_it_is_refused(
    cases: Path, monkeypatch: pytest.MonkeyPatch, overflowing: None, version: str, name: str, refused: bool
) -> None:
    monkeypatch.setattr(ort, "__version__", version)
    graph = cases / f"{name}.onnx"
    if not refused:
        keep_exact(ort.SessionOptions(), graph)
        return
    with pytest.raises(EnvironmentProblem, match=rf"onnxruntime {version} overflows in {graph.name}.*>=1.30"):
        keep_exact(ort.SessionOptions(), graph)


@pytest.mark.parametrize("answer", [2072640, 1048544])
def test_the_probe_reads_the_engines_answer(monkeypatch: pytest.MonkeyPatch, answer: int) -> None:
    class Engine:
        def run(self, outputs: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [np.full((len(feeds["a"]), feeds["b"].shape[1]), answer, np.int32)]

    monkeypatch.setattr(ort, "InferenceSession", lambda *given, **named: Engine())
    assert saturates.__wrapped__() == (answer != 255 * 127 * 64)
