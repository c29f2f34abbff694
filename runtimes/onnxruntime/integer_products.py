"""Session options that make ONNX Runtime's integer products the same on every CPU.

x86 CPUs without VNNI multiply unsigned by signed bytes with VPMADDUBSW, which adds two products in 16 bits:
255 x 127 + 255 x 127 becomes 32767. ONNX Runtime (1.30 and later for our graphs) can convert int8 weights to
uint8 with zero point 128 while it opens a graph, and multiplies these exactly. With the option it does so on
every x86 CPU with AVX2, also on those with VNNI, where nothing saturates and the kernel for u8 x u8 is
slower. So one such product is tried in the engine first.

On ARM64 with dot product, KleidiAI's kernels compute 4-bit MatMulNBits. They quantize a position's
activations as one row with one range, ONNX Runtime's own kernels block by block, as on x86: with a large
activation in the row the error is up to three times as large (docs/performance.md). ONNX Runtime 1.25 and
later can switch them off.
"""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort

from pam_edge.core.errors import EnvironmentProblem

# MatMulInteger of "a" [m, k] uint8 and "b" [k, n] int8, opset 20.
PROBE = (
    b'\x08\n:b\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01g'
    b"Z\x15\n\x01a\x12\x10\n\x0e\x08\x02\x12\n\n\x03\x12\x01m\n\x03\x12\x01k"
    b"Z\x15\n\x01b\x12\x10\n\x0e\x08\x03\x12\n\n\x03\x12\x01k\n\x03\x12\x01n"
    b"b\x15\n\x01y\x12\x10\n\x0e\x08\x06\x12\n\n\x03\x12\x01m\n\x03\x12\x01n"
    b"B\x04\n\x00\x10\x14"
)
TO_UNSIGNED = "session.x64quantprecision"  # kOrtSessionOptionsAvx2PrecisionMode
CONVERTS = (1, 30)  # the first version that converts weights of our operator; 1.22, 1.27 to 1.29 do not
NO_KLEIDIAI = "mlas.disable_kleidiai"  # kOrtSessionOptionsMlasDisableKleidiAi; before 1.25 it does nothing
_OPERATOR = b"MatMulIntegerToFloat"
_BLOCKWISE = b"MatMulNBits"
_WIDTH = 64  # of every operand: whole vectors of the widest kernels


@cache
def saturates() -> bool:
    """Whether the engine's product of uint8 and int8 overflows on this CPU; asked once a process.

    Raises what onnxruntime raises where it cannot run the product.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(PROBE, options, providers=["CPUExecutionProvider"])
    for rows in (1, 8):  # a vector has a kernel of its own
        a = np.full((rows, _WIDTH), 255, np.uint8)
        b = np.full((_WIDTH, _WIDTH), 127, np.int8)
        (found,) = session.run(None, {"a": a, "b": b})
        if (found != 255 * 127 * _WIDTH).any():
            return True
    return False


def keep_exact(options: ort.SessionOptions, graph: Path | None = None) -> None:
    """Make sessions opened with `options` multiply integers exactly, and round activations in blocks, on this
    CPU.

    Changes nothing where they do anyway. `graph` is the .onnx file to be opened. Raises
    EnvironmentProblem where it has such products, this CPU saturates and this engine is too old to avoid it.
    """
    if _is_arm() and graph is not None and _BLOCKWISE in graph.read_bytes():
        options.add_session_config_entry(NO_KLEIDIAI, "1")  # of this graph alone: elsewhere it is only faster
    if not saturates():
        return
    options.add_session_config_entry(TO_UNSIGNED, "1")
    if graph is not None and _version() < CONVERTS and _OPERATOR in graph.read_bytes():
        raise EnvironmentProblem(
            f"onnxruntime {ort.__version__} overflows in {graph.name}'s 8-bit products on this CPU, which "
            "has no VNNI: pip install 'onnxruntime>=1.30' (for Python 3.11 or later), or use scheme fp32"
        )


def _is_arm() -> bool:
    return platform.machine().lower() in ("arm64", "aarch64")


def _version() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", ort.__version__)[:2]))
