"""8-bit layers: what the file computes, what calibration sees, which layers suffer; on small graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from PIL import Image

from pam_edge.core.errors import IntegrityError, UsageError
from pam_edge.image.preprocess import Prompt
from pam_edge.quantize import calibration
from pam_edge.quantize.calibration import Sample, Samples, calibrate, drawn_samples, folder_samples
from pam_edge.quantize.observe import KEPT, Observer, Seen, best_range
from pam_edge.quantize.sensitivity import EVERYTHING, block_of, keep_float, sensitivity
from pam_edge.quantize.static import ONNXRUNTIME, TENSORRT, Static, find_layers, parameters, quantize_static
from pam_edge.runtimes.onnxruntime.integer_products import keep_exact

WIDTH = 32
FIRST, SECOND, THIRD = "trunk.blocks.0.proj", "trunk.blocks.1.mlp.layers.0", "head.layers.0"


def every(name: str, shape: Sequence[int]) -> str:
    return "w8a8"


def write(path: Path, nodes: list[onnx.NodeProto], inputs: dict, outputs: dict, weights: dict) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "graph",
        [value(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [value(name, onnx.TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """Windows cut from a map, a product with bias, Gelu, a product without, a Gemm with turned weights."""
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32) / np.float32(WIDTH**0.5)

    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "cut"], ["cells"]),
        node("Transpose", ["cells"], ["turned"], perm=[0, 2, 1, 3]),
        node("MatMul", ["turned", f"{FIRST}.weight"], ["product"], name=FIRST),
        node("Add", ["product", "bias"], ["biased"]),
        node("Gelu", ["biased"], ["gelu"]),
        node("MatMul", ["gelu", f"{SECOND}.weight"], ["second"], name=SECOND),
        node("Reshape", ["second", "flat"], ["rows"]),
        node("Gemm", ["rows", f"{THIRD}.weight", "third"], ["y"], name=THIRD, transB=1),
    ]
    weights = {
        "cut": np.array([1, 4, 2, WIDTH]),
        "flat": np.array([8, 2 * WIDTH]),
        f"{FIRST}.weight": weight(WIDTH, WIDTH),
        "bias": weight(WIDTH),
        f"{SECOND}.weight": weight(WIDTH, 2 * WIDTH),
        f"{THIRD}.weight": weight(5, 2 * WIDTH),
        "third": weight(5),
    }
    return write(tmp_path / "blocks.onnx", nodes, {"x": [1, 8, WIDTH]}, {"y": [8, 5], "gelu": None}, weights)


def feeds(seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((1, 8, WIDTH), dtype=np.float32)}


def run(path: Path, *, fuse: bool = True) -> np.ndarray:
    options = ort.SessionOptions()
    keep_exact(options)
    if not fuse:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options).run(["y"], feeds())[0]


def ranges_of(path: Path) -> dict[str, tuple[float, float]]:
    sources = [layer.source for layer in find_layers(path, every)]
    seen = Observer(path, sources).run(feeds())[1]
    return {name: (one.low, one.high) for name, one in seen.items()}


def test_layers_are_found_with_what_they_read(blocks: Path) -> None:
    found = find_layers(blocks, every)
    assert [(layer.name, layer.source) for layer in found] == [
        (FIRST, "x"),
        (SECOND, "gelu"),
        (THIRD, "second"),
    ]
    assert (
        find_layers(blocks, lambda name, shape: "w8a8" if name.startswith("head") else "float32") == found[2:]
    )


@pytest.mark.parametrize("how", [ONNXRUNTIME, TENSORRT, Static(fused=False)])
def test_the_file_computes_nearly_the_same(blocks: Path, how: Static, tmp_path: Path) -> None:
    (out,) = quantize_static(
        blocks, tmp_path / "q.onnx", find_layers(blocks, every), ranges_of(blocks), how=how
    )
    held = {tensor.name: tensor.data_type for tensor in onnx.load(out).graph.initializer}
    assert [name for name in held if name.endswith(".weight")] == []
    assert sum(kind == onnx.TensorProto.INT8 and name.endswith(".q") for name, kind in held.items()) == 3
    wanted = run(blocks)
    error = np.linalg.norm(run(out, fuse=how.fused) - wanted) / np.linalg.norm(wanted)
    assert 1e-4 < error < 0.03


def test_both_forms_are_the_same_numbers(blocks: Path, tmp_path: Path) -> None:
    layers, ranges = find_layers(blocks, every), ranges_of(blocks)
    (fused,) = quantize_static(blocks, tmp_path / "a.onnx", layers, ranges)
    (pairs,) = quantize_static(blocks, tmp_path / "b.onnx", layers, ranges, how=Static(fused=False))
    np.testing.assert_allclose(run(fused), run(pairs, fuse=False), atol=1e-5)
    onnx.checker.check_model(pairs, full_check=True)
    moved = [node for node in onnx.load(fused).graph.node if node.op_type == "Transpose"]
    assert moved[0].input[0] == "cells"  # of integers: their source was quantized before it was cut up
    assert onnx.load(fused).graph.node[0].op_type == "QuantizeLinear"


def test_the_library_makes_the_same_numbers(blocks: Path, tmp_path: Path) -> None:
    """onnxruntime.quantization, on the layer after Gelu, whose input nothing moves about."""
    ranges = {"gelu": ranges_of(blocks)["gelu"]}
    ours = [layer for layer in find_layers(blocks, every) if layer.name == SECOND]
    (path,) = quantize_static(blocks, tmp_path / "ours.onnx", ours, ranges)
    theirs = QDQQuantizer(
        onnx.load(blocks),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(
            CalibrationMethod.MinMax, {k: tuple(np.float32(v) for v in r) for k, r in ranges.items()}
        ),
        nodes_to_quantize=[SECOND],
        nodes_to_exclude=[],
        op_types_to_quantize=["MatMul"],
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"], "WeightSymmetric": True},
    )
    theirs.quantize_model()
    theirs.model.save_model_to_file(str(tmp_path / "theirs.onnx"))
    np.testing.assert_allclose(run(path), run(tmp_path / "theirs.onnx", fuse=False), atol=1e-5)


def test_the_same_arguments_give_the_same_bytes(blocks: Path, tmp_path: Path) -> None:
    layers, ranges = find_layers(blocks, every), ranges_of(blocks)
    a, b = (quantize_static(blocks, tmp_path / f"{n}.onnx", layers, ranges)[0].read_bytes() for n in "ab")
    assert a == b


@pytest.mark.parametrize("wrong", [{}, {"gelu": (float("nan"), 1.0)}, {"gelu": (2.0, 1.0)}])
def test_a_range_that_is_none_is_said(blocks: Path, wrong: dict, tmp_path: Path) -> None:
    ranges = ranges_of(blocks)
    del ranges["gelu"]
    with pytest.raises(IntegrityError, match="no usable range of gelu"):
        quantize_static(blocks, tmp_path / "q.onnx", find_layers(blocks, every), ranges | wrong)
    assert not (tmp_path / "q.onnx").exists()


@pytest.mark.parametrize(
    ("values", "how", "wanted"),
    [
        ((-1.0, 3.0), ONNXRUNTIME, (4 / 255, 64)),
        ((1.0, 3.0), ONNXRUNTIME, (3 / 255, 0)),
        ((-1.0, 3.0), TENSORRT, (1549 / 65536, 0)),  # the next number of float16 above 3 / 127
        ((-1.0, 3.0), Static(symmetric=True), (3 / 127, 128)),
    ],
)
def test_scale_and_zero(values: tuple[float, float], how: Static, wanted: tuple[float, int]) -> None:
    assert parameters(values, how) == pytest.approx(wanted)


def test_watching_changes_nothing(blocks: Path) -> None:
    observer = Observer(blocks, ["x", "gelu", "second"])
    outputs, seen = observer.run(feeds())
    np.testing.assert_array_equal(outputs["y"], run(blocks))
    gelu = outputs["gelu"]
    assert (seen["gelu"].low, seen["gelu"].high) == (gelu.min(), gelu.max())
    assert set(seen["gelu"].some) <= set(gelu.ravel())


def test_a_small_file_needs_no_weights_of_the_float_one(blocks: Path, tmp_path: Path) -> None:
    (apart := tmp_path / "apart").mkdir()
    ir.save(ir.load(blocks), apart / "wide.onnx", external_data="wide.bin", size_threshold_bytes=0)
    layers, ranges = find_layers(blocks, every), ranges_of(blocks)
    wanted = quantize_static(blocks, tmp_path / "inside.onnx", layers, ranges)
    found = quantize_static(apart / "wide.onnx", apart / "small.onnx", layers, ranges)
    (apart / "wide.bin").unlink()
    assert len(found) == 1
    np.testing.assert_array_equal(run(found[0]), run(wanted[0]))


def test_a_tensor_of_unknown_shape_is_thinned_too(tmp_path: Path) -> None:
    """Kept whole, those of Hiera-L's attention alone are half a gigabyte a picture."""
    nodes = [onnx.helper.make_node("Neg", ["x"], ["a"]), onnx.helper.make_node("Neg", ["a"], ["y"])]
    sizes = {"x": (1, 100, 960), "y": (1, 100, 960)}
    values = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in sizes.items()
    }
    graph = onnx.helper.make_graph(nodes, "g", [values["x"]], [values["y"]])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "g.onnx")
    x = np.random.default_rng(0).standard_normal(sizes["x"], dtype=np.float32)
    _, seen = Observer(tmp_path / "g.onnx", ["a"], threads=1).run({"x": x})
    assert (seen["a"].low, seen["a"].high) == (float(-x.max()), float(-x.min()))
    assert seen["a"].stride == 43  # 7 sixes and 1
    assert KEPT <= len(seen["a"].some) < 1.2 * KEPT
    np.testing.assert_array_equal(seen["a"].some, -x.ravel()[::43])


def test_one_wild_value_does_not_set_the_steps() -> None:
    values = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    low, high = best_range([Seen(float(values.min()), 12.0, 100, values)], ONNXRUNTIME)
    assert 3 < high < 9
    assert low == pytest.approx(values.min(), rel=0.2)
    assert (
        best_range([Seen(0.0, float("nan"), 1, values)], ONNXRUNTIME)[1] != 0
    )  # left for the quantizer to refuse


def test_one_run_that_is_no_number_leaves_no_range() -> None:
    values, nan = np.linspace(0, 1, 9, dtype=np.float32), float("nan")
    runs = [Seen(0.0, 1.0, 1, values), Seen(nan, nan, 1, values), Seen(0.0, 1.0, 1, values)]
    assert np.isnan(best_range(runs, ONNXRUNTIME)).all()


def small_encoder(path: Path) -> Path:
    node = helper.make_node
    nodes = [
        node("MatMul", ["image", "layer.weight"], ["image_embed"], name="layer"),
        node("Relu", ["image_embed"], ["high_res_0"]),
        node("Neg", ["image_embed"], ["high_res_1"]),
    ]
    shape = [1, 3, 16, 16]
    names = ("image_embed", "high_res_0", "high_res_1")
    return write(
        path,
        nodes,
        {"image": shape},
        dict.fromkeys(names, shape),
        {"layer.weight": np.eye(16, dtype=np.float32)},
    )


def test_calibration_goes_on_where_it_stopped(tmp_path: Path) -> None:
    graph, made = small_encoder(tmp_path / "encoder.onnx"), []

    def samples(*, until: int) -> Samples:
        def at(n: int) -> Sample:
            if n == until:
                raise KeyboardInterrupt
            made.append(n)
            return drawn_samples(16, count=4).at(n)

        return Samples("drawn", 4, at)

    def ranges(work: str, until: int) -> dict[str, tuple[float, float]]:
        return calibrate(
            "image_encoder", graph, ["image"], samples(until=until), tmp_path / work, image_size=16
        )

    with pytest.raises(KeyboardInterrupt):
        ranges("cut", 2)
    assert ranges("cut", 4) == ranges("whole", 4)
    assert made == [0, 1, 2, 3, 0, 1, 2, 3]
    low, high = ranges("whole", 0)["image"]
    assert -2.2 < low < -1 < 1 < high < 2.7
    clicked, boxed = first_feeds(samples(until=0), tmp_path / "cut")
    assert clicked["point_labels"].tolist() == [[1]]
    assert boxed["point_labels"].tolist() == [[2, 3]]
    assert clicked["image_embed"].shape == (1, 3, 16, 16)
    with pytest.raises(IntegrityError, match=r"calibration of mask_decoder.*another -o"):
        calibrate("perceiver", graph, [], samples(until=0), tmp_path / "cut", image_size=16)


def first_feeds(samples: Samples, work: Path) -> list[dict[str, np.ndarray]]:
    """What the first two runs of mask_decoder are fed; image_encoder is calibrated in `work`."""
    runs = calibration._runs("mask_decoder", samples, work, 16)
    return [run.feeds()[0] for run in runs[:2]]


@pytest.mark.parametrize("damage", ["empty", "cut", "changed"])
@pytest.mark.parametrize("kind", ["seen", "kept"])
def test_damaged_calibration_is_said(tmp_path: Path, kind: str, damage: str) -> None:
    graph, work = small_encoder(tmp_path / "encoder.onnx"), tmp_path / "work"
    samples = drawn_samples(16, count=1)
    calibrate("image_encoder", graph, ["image"], samples, work, image_size=16)
    (path,) = work.glob(f"*.{kind}.npz")
    raw = bytearray(path.read_bytes())
    raw[raw.find(b"NUMPY") + 129] ^= 1  # a value of the first array
    path.write_bytes({"empty": b"", "cut": raw[:100], "changed": raw}[damage])
    with pytest.raises(IntegrityError, match=f"{kind}.npz cannot be read.*another -o"):
        if kind == "seen":
            calibrate("image_encoder", graph, ["image"], samples, work, image_size=16)
        first_feeds(samples, work)


def test_a_folder_of_pictures(tmp_path: Path, photo: Path) -> None:
    with pytest.raises(UsageError, match="holds no pictures"):
        folder_samples(tmp_path)
    with pytest.raises(UsageError, match="cannot read"):
        folder_samples(tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("no picture")
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(photo.read_bytes())
    samples = folder_samples(tmp_path, count=2)
    assert samples.count == 2
    assert "2 of 3" in samples.about
    again = folder_samples(tmp_path, count=2)
    assert samples.at(1).prompts[0].points == again.at(1).prompts[0].points
    assert isinstance(samples.at(0).prompts[1], Prompt)
    assert again.about == samples.about
    for name in "abc":
        Image.new("RGB", (20, 20), "red").save(tmp_path / f"{name}.png")
    assert folder_samples(tmp_path, count=2).about != samples.about, "as many pictures, but others"


def test_the_layer_that_suffers_is_named(blocks: Path) -> None:
    layers, ranges = find_layers(blocks, every), ranges_of(blocks)
    ranges["gelu"] = (0.0, 0.02)  # nearly all of it is cut off
    rows = sensitivity(blocks, layers, ranges, [feeds(), feeds(1)])
    assert [(row.part, row.layers, row.weights) for row in rows] == [
        ("trunk.blocks.0", 1, 1024),
        ("trunk.blocks.1", 1, 2048),
        ("head", 1, 320),
        (EVERYTHING, 3, 3392),
    ]
    noise = {row.part: row.worst for row in rows}
    assert noise["trunk.blocks.1"] > 0.5 > 0.02 > noise["trunk.blocks.0"] > 0
    assert [layer.name for layer in keep_float(layers, rows)] == [FIRST, THIRD]
    assert rows[1].noise["gelu"] == 0


@pytest.mark.parametrize(
    ("layer", "block"),
    [
        ("image_encoder.trunk.blocks.12.mlp.layers.1", "image_encoder.trunk.blocks.12"),
        ("head.transformer.layers.0.self_attn.q_proj", "head.transformer.layers.0"),
        ("head.output_hypernetworks_mlps.0.layers.2", "head.output_hypernetworks_mlps.0"),
        ("perceiver.mm_projector_img.0", "perceiver.mm_projector_img"),
        ("proj", "proj"),
    ],
)
def test_blocks(layer: str, block: str) -> None:
    assert block_of(layer) == block
