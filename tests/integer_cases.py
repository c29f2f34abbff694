"""Small ONNX graphs whose 8-bit products are as large as they can be, with their exact results.

    python tests/integer_cases.py FOLDER

Writes NAME.onnx and NAME.npz a case: x, y = exact results, and which rows of x can also be run alone. There
is one for each integer operator that a bundle may hold, or that an engine makes of what it holds. All scales
are 1 and inputs are integers, so that results are integers, below 2**24 where float32 still holds them all.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pam_edge.quantize.static import ONNXRUNTIME, Static, find_layers, quantize_static

Integers = npt.NDArray[np.int64]
WIDTHS = (64, 75, 256)  # of the summed axis: whole vectors, a remainder, several blocks
OUT = 24
MICROSOFT = "com.microsoft"


def extremes(low: int, high: int, shape: tuple[int, int], *, seed: int = 0) -> Integers:
    """[rows, width]: all of one extreme, signs that alternate singly, in pairs and in fours, drawn ones.

    Row 0 is all `high`, row 1 all `low`; every row from 2 on has both.
    """
    rows, width = shape
    at = np.arange(width)
    made = [np.full(width, high), np.full(width, low)]
    made += [np.where(at // step % 2 == flip, low, high) for step in (1, 2, 4, 16) for flip in (0, 1)]
    rng = np.random.default_rng(seed)
    while len(made) < rows:
        drawn = rng.integers(low, high + 1, width)
        drawn[::16], drawn[1::16] = low, high  # in every block of MatMulNBits, whose scale is then 1
        made.append(drawn if len(made) % 2 else np.where(rng.random(width) < 0.5, low, high))
    return np.stack(made[:rows]).astype(np.int64)


def save(
    folder: Path,
    name: str,
    nodes: list[onnx.NodeProto],
    weights: dict[str, Any],
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    *,
    alone: list[int],
) -> None:
    """Write one case. The graph reads "x" and gives "y", both with a free first axis."""
    kinds = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in (x, y)]
    ends = [
        helper.make_tensor_value_info(n, kind, ["rows", *a.shape[1:]])
        for n, kind, a in zip("xy", kinds, (x, y), strict=True)
    ]
    held = [numpy_helper.from_array(np.asarray(array), key) for key, array in weights.items()]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:], held)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), folder / f"{name}.onnx")
    np.savez(folder / f"{name}.npz", x=x, y=y, alone=np.array(alone, np.int64))


def static_layers(folder: Path) -> None:
    """MatMul, MatMul + Add and Gemm as quantize/static.py writes them, in both its forms."""
    node = helper.make_node
    forms: dict[str, Static] = {
        "fused": ONNXRUNTIME,
        "pairs": Static(fused=False),
        "pairs_int8": Static(activations="int8", symmetric=True, fused=False),
    }
    for width in WIDTHS:
        weight = extremes(-127, 127, (OUT, width), seed=width).T
        for low in (0, -128, -255):
            x = extremes(low, low + 255, (24, width), seed=1)
            bias = np.arange(OUT) - 7
            for form, how in forms.items():
                if form == "pairs_int8":
                    x = extremes(-127, 127, (24, width), seed=1)
                if form == "pairs_int8" and low:
                    continue
                for op in ("product", "matmul", "gemm"):
                    name = f"static_{form}_{op}_{width}_zero{-low}"
                    added = 0 * bias if op == "product" else bias
                    if op == "product":
                        nodes = [node("MatMul", ["x", "layer.weight"], ["y"], name="layer")]
                    elif op == "matmul":
                        nodes = [
                            node("MatMul", ["x", "layer.weight"], ["product"], name="layer"),
                            node("Add", ["product", "bias"], ["y"]),
                        ]
                    else:
                        nodes = [node("Gemm", ["x", "layer.weight", "bias"], ["y"], name="layer", transB=1)]
                    held = weight.T if op == "gemm" else weight
                    weights = {"layer.weight": held.astype(np.float32), "bias": bias.astype(np.float32)}
                    y = (x @ weight + added).astype(np.float32)
                    save(folder, name, nodes, weights, x.astype(np.float32), y, alone=[0, 1, 2, 5, 12])
                    path = folder / f"{name}.onnx"
                    ends = (-127.0, 127.0) if form == "pairs_int8" else (float(low), float(low + 255))
                    layers = find_layers(path, lambda name, shape: "w8a8")
                    quantize_static(path, path, layers, {"x": ends}, how=how)


def integer_products(folder: Path) -> None:
    """MatMulInteger, and what dynamic quantization makes of a float layer. No bundle has them yet.

    With a zero point of weights: without one, ONNX Runtime 1.27 aborts where it converts them to uint8.
    """
    node = helper.make_node
    for width in WIDTHS:
        # No -128, as in all weights of ours: ARM without dot product overflows at it.
        b = extremes(-127, 127, (OUT, width), seed=width).T
        weights = {"b": b.astype(np.int8), "zero": np.uint8(100), "none": np.int8(0)}
        a = extremes(0, 255, (24, width))
        nodes = [node("MatMulInteger", ["x", "b", "zero", "none"], ["y"])]
        y = ((a - 100) @ b).astype(np.int32)
        save(folder, f"matmulinteger_{width}", nodes, weights, a.astype(np.uint8), y, alone=[0, 1, 2, 5, 12])
        for low in (0, -128):
            x = extremes(low, low + 255, (24, width))
            nodes = [
                node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
                node("MatMulInteger", ["q", "b", "zero", "none"], ["sum"]),
                node("Cast", ["sum"], ["float"], to=TensorProto.FLOAT),
                node("Mul", ["scale", "one"], ["scales"]),
                node("Mul", ["float", "scales"], ["y"]),
            ]
            weights = {"b": b.astype(np.int8), "one": np.float32(1), "none": np.int8(0)}
            y = (x @ b).astype(np.float32)
            name = f"dynamic_{width}_zero{-low}"
            save(folder, name, nodes, weights, x.astype(np.float32), y, alone=[2, 5, 12])


def block_products(folder: Path) -> None:
    """MatMulNBits as the decoder has it (accuracy level 4: activations in 8 bits), and at other blocks."""
    width = 256
    for bits in (4, 8):
        most = (1 << bits) - 1
        for block in (16, 32, 64, 128):
            codes = extremes(0, most, (OUT, width), seed=bits)
            whole = codes - (most + 1) // 2
            packed = codes if bits == 8 else codes[:, ::2] | codes[:, 1::2] << 4
            x = extremes(-127, 127, (24, width), seed=2)
            blocks = width // block
            weights = {
                "b": packed.reshape(OUT, blocks, -1).astype(np.uint8),
                "scales": np.ones((OUT, blocks), np.float32),
            }
            node = helper.make_node(
                "MatMulNBits",
                ["x", "b", "scales"],
                ["y"],
                domain=MICROSOFT,
                K=width,
                N=OUT,
                bits=bits,
                block_size=block,
                accuracy_level=4,
            )
            y = (x @ whole.T).astype(np.float32)
            name = f"matmulnbits_{bits}bits_block{block}"
            save(folder, name, [node], weights, x.astype(np.float32), y, alone=[0, 1, 2, 5, 12])


def convolutions(folder: Path) -> None:
    """Convolutions between Q/DQ pairs, which the engine fuses to integer ones. No bundle has them yet."""
    node = helper.make_node
    for channels, groups in ((16, 1), (15, 1), (16, 16)):
        count, size = 16, 6
        inner = channels // groups
        weight = extremes(-127, 127, (count, inner * 9), seed=channels).reshape(count, inner, 3, 3)
        x = extremes(0, 255, (12, channels * size * size), seed=3).reshape(12, channels, size, size)
        cells = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
        if groups == 1:
            y = np.einsum("nchwij,ocij->nohw", cells, weight)
        else:
            y = np.einsum("nchwij,cij->nchw", cells, weight[:, 0])
        step = 2.0 ** np.ceil(np.log2(255 * 127 * inner * 9 / 127))  # the result is 8 bits too: coarse steps
        y = np.clip(np.rint(y / step), -128, 127) * step
        weights = {
            "one": np.float32(1),
            "zero": np.uint8(0),
            "w": weight.astype(np.int8),
            "ones": np.ones(count, np.float32),
            "zeros": np.zeros(count, np.int8),
            "step": np.float32(step),
            "middle": np.uint8(128),
        }
        nodes = [
            node("QuantizeLinear", ["x", "one", "zero"], ["xq"]),
            node("DequantizeLinear", ["xq", "one", "zero"], ["xd"]),
            node("DequantizeLinear", ["w", "ones", "zeros"], ["wd"], axis=0),
            node("Conv", ["xd", "wd"], ["c"], group=groups),
            node("QuantizeLinear", ["c", "step", "middle"], ["cq"]),
            node("DequantizeLinear", ["cq", "step", "middle"], ["y"]),
        ]
        name = f"conv_pairs_{channels}_groups{groups}"
        save(folder, name, nodes, weights, x.astype(np.float32), y.astype(np.float32), alone=[0, 1, 2])


def write_cases(folder: Path) -> None:
    """Every case, into an existing folder."""
    for make in (static_layers, integer_products, block_products, convolutions):
        make(folder)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    write_cases(place)
