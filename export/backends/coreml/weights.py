"""The decoder's weights as constants of a CoreML program, each read once and shared by all functions.

Block-wise weights are those of `quantize/blockwise.py`, as signed integers with one float16 scale per block.
Knows keys and storage; of operators only the one that expands blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - what its own documents call it
from coremltools.converters.mil.mil import types

from pam_edge.bundle.config import LanguageConfig
from pam_edge.core.errors import IntegrityError, UsageError
from pam_edge.export.checkpoint.keys import EMBED_TOKENS, LM_HEAD
from pam_edge.export.decoder.onnx_graph import STORED
from pam_edge.export.decoder.tensors import AT_ONCE, Tensors, rope_table
from pam_edge.quantize.blockwise import BITS, Bits, block_size, quantize
from pam_edge.quantize.fp16 import halved
from pam_edge.quantize.schemes import Scheme

Array = npt.NDArray[Any]
Wave = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
Held = tuple[Array, Array | None]  # values, or codes and their scales
_GRAPH = "decoder"


class Weights:
    """Constants by canonical key. What was read once is kept until the package is written: two functions
    read it.
    """

    def __init__(
        self, language: LanguageConfig, tensor: Tensors, scheme: Scheme, progress: Callable[[float], None]
    ) -> None:
        self._language, self._tensor, self._scheme, self._progress = language, tensor, scheme, progress
        self._held: dict[str, Held] = {}
        self._shapes = matrix_shapes(language)
        self._total, self._done = sum(math.prod(shape) for shape in self._shapes.values()), 0

    def head(self) -> Any:
        """The head's weight [V, H]; a tied one is the embedding."""
        return self.matrix(EMBED_TOKENS if self._language.tied else LM_HEAD)

    def matrix(self, key: str) -> Any:
        """A weight [out, in], float16 or in blocks."""
        if key not in self._held:
            shape = self._shapes[key]
            storage = self._scheme.stored(_GRAPH, key, shape, possible=STORED)
            bits = BITS.get(storage)
            self._held[key] = (
                (self._halves(key, shape), None) if bits is None else self._blocks(key, shape, bits)
            )
            self._done += math.prod(shape)
            self._progress(self._done / self._total)
        values, scales = self._held[key]
        if scales is None:
            return _constant(values, key)
        data, scale = _constant(values, f"{key}.codes"), _constant(scales, f"{key}.scales")
        return mb.constexpr_blockwise_shift_scale(data=data, scale=scale, name=_name(key))

    def vector(self, key: str, dtype: type[np.floating[Any]]) -> Any:
        """A norm or a bias, [n]."""
        if key not in self._held:
            lm = self._language
            width = lm.hidden_size
            if key.endswith("bias"):
                width = (lm.heads if ".q_proj" in key else lm.kv_heads) * lm.head_dim
            values = np.asarray(self._rows(key, (width,))[:], dtype=np.float32)
            self._held[key] = (halved(values, key) if dtype is np.float16 else values), None
        return _constant(self._held[key][0], key)

    def table(self, name: str, wave: Wave, rows: int) -> Any:
        """`wave` of position x frequency, [rows, head dim / 2]."""
        key = f"rope.{name}"
        if key not in self._held:
            longer = msgspec.structs.replace(self._language, max_length=rows)
            self._held[key] = rope_table(longer, wave).astype(np.float16), None
        return _constant(self._held[key][0], key)

    def _rows(self, key: str, shape: tuple[int, ...]) -> Any:
        values = self._tensor(key)
        if values.shape != shape:
            raise IntegrityError(f"{key} has shape {values.shape} where the variant wants {shape}")
        return values

    def _halves(self, key: str, shape: tuple[int, int]) -> Array:
        rows, held = self._rows(key, shape), np.empty(shape, np.float16)
        for part in _parts(shape):
            held[part] = halved(np.asarray(rows[part], dtype=np.float32), key)
        return held

    def _blocks(self, key: str, shape: tuple[int, int], bits: Bits) -> Held:
        block = block_size(shape[1])
        if shape[1] % block:
            raise UsageError(
                f"{key} has rows of {shape[1]}, which CoreML cannot cut into blocks of {block}: "
                "choose --scheme fp16"
            )
        rows = self._rows(key, shape)
        codes = np.empty(shape, types.np_int4_dtype if bits == 4 else np.int8)
        scales = np.empty((shape[0], shape[1] // block), np.float16)
        for part in _parts(shape):
            found = quantize(np.ascontiguousarray(rows[part], dtype=np.float32), bits=bits, name=key)
            stored = found.codes
            if bits == 4:
                stored = np.stack([stored & 15, stored >> 4], axis=-1)
            signed = (stored - np.uint8(1 << (bits - 1))).view(np.int8)  # unsigned integers wrap around
            codes[part] = signed.reshape(-1, shape[1])
            scales[part] = halved(found.scales, key)
        return codes, scales


def matrix_shapes(lm: LanguageConfig) -> dict[str, tuple[int, int]]:
    """Every matrix that the decoder multiplies by, [out, in]."""
    q, kv = lm.heads * lm.head_dim, lm.kv_heads * lm.head_dim
    layer = {
        "self_attn.q_proj": (q, lm.hidden_size),
        "self_attn.k_proj": (kv, lm.hidden_size),
        "self_attn.v_proj": (kv, lm.hidden_size),
        "self_attn.o_proj": (lm.hidden_size, q),
        "mlp.gate_proj": (lm.mlp, lm.hidden_size),
        "mlp.up_proj": (lm.mlp, lm.hidden_size),
        "mlp.down_proj": (lm.hidden_size, lm.mlp),
    }
    shapes = {
        f"language.layers.{i}.{name}.weight": shape for i in range(lm.layers) for name, shape in layer.items()
    }
    return {**shapes, (EMBED_TOKENS if lm.tied else LM_HEAD): (lm.vocab_size, lm.hidden_size)}


def _parts(shape: tuple[int, int]) -> list[slice]:
    step = max(1, AT_ONCE // shape[1])
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def _constant(values: Array, key: str) -> Any:
    """A constant whose bytes all functions share: coremltools tells equal ones by `weight_id`."""
    constant = mb.const(val=values, name=_name(key) + "_held")
    constant.op.weight_id = key
    return constant


def _name(key: str) -> str:
    return key.replace(".", "_")
