"""Error of the decoder's stored weights against the float weights: the check of the gate that needs both.

The answers of a decoder with untrained weights cannot be judged, because its layers amplify noise
(random:nano in 4 bits: 0.08 in the first layer's keys, 0.7 in the logits after four layers; trained nano:
0.05). There its weights are held to a limit instead. For every model, some rows of each matrix (first, middle
and last ones) are compared, which shows a zeroed scale or a dropped or swapped layer even where the logits do
not.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pam_edge.bundle.config import LanguageConfig
from pam_edge.bundle.manifest import Check
from pam_edge.core.errors import IntegrityError
from pam_edge.export.backends.onnxruntime.decoder import planned
from pam_edge.export.decoder.tensors import Rows, Tensors, Weight
from pam_edge.quantize.blockwise import BITS, Blocks, block_size, dequantize
from pam_edge.quantize.schemes import Scheme
from pam_edge.verify.error_metrics import noise
from pam_edge.verify.quantization_gate import check

ROWS = 16  # read in each place
Floats = npt.NDArray[np.float32]


def weight_check(
    folder: Path, tensor: Tensors, language: LanguageConfig, *, scheme: Scheme, limit: float
) -> Check:
    """The worst row of all matrices that `language2onnx` wrote into `folder` at `scheme`: its noise.

    Raises IntegrityError where a file cannot be read.
    """
    worst, where = 0.0, "none"
    for weight in planned(language, scheme):
        start = 0
        for key, rows in zip(weight.keys, weight.rows, strict=True):
            if len(weight.shape) == 2 and key.startswith("language."):
                lost = _worst_row(folder, weight, start, tensor(key))
                worst, where = max((worst, where), (lost, key))
            start += rows
    return check("decoder", f"weights: noise of the worst row, {where}", worst, limit)


def _worst_row(folder: Path, weight: Weight, start: int, wanted: Rows) -> float:
    count = wanted.shape[0]
    worst = 0.0
    for low in sorted({0, max(0, count // 2 - ROWS // 2), max(0, count - ROWS)}):
        rows = slice(low, min(count, low + ROWS))
        given = np.asarray(wanted[rows], np.float32)
        found = _read(folder, weight, slice(start + rows.start, start + rows.stop))
        worst = max(worst, *(noise(a, b) for a, b in zip(found, given, strict=True)))
    return worst


def _read(folder: Path, weight: Weight, rows: slice) -> Floats:
    """Rows [n, in] of a stored weight."""
    try:
        parts = [
            np.memmap(
                folder / weight.file,
                _DTYPES[part.bytes // int(np.prod(part.shape))],
                "r",
                part.offset,
                part.shape,
            )
            for part in weight.parts
        ]
    except (OSError, ValueError) as e:
        raise IntegrityError(f"cannot read {folder / weight.file}: {e}; export the bundle again") from e
    if weight.storage in ("q4", "q8"):
        width = weight.shape[1]
        blocks = Blocks(parts[0][rows], parts[1][rows], BITS[weight.storage], block_size(width))
        return dequantize(blocks, width)
    held = parts[0].T if weight.transpose else parts[0]
    return np.asarray(held[rows], np.float32)


_DTYPES = {1: np.uint8, 2: np.float16, 4: np.float32}  # by bytes of a value
