"""Attention in ONNX graphs as the one operator that ONNX Runtime computes without storing the score matrix.

PAM's global blocks attend over 4,096 positions with 8 heads: as products and a softmax, each takes half a
gigabyte for scores, which `com.microsoft.MultiHeadAttention` never stores. Knows torch's exporter and that
operator, no module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from onnx.defs import OpSchema
from onnxscript import opset20 as op
from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention
from onnxscript.values import Op, Opset

_ENGINE = "com.microsoft"
# torch's exporter builds a node from its schema; the onnx package knows only its own.
_SCHEMA = OpSchema(
    "MultiHeadAttention",
    _ENGINE,
    1,
    inputs=[OpSchema.FormalParameter(name, "T") for name in ("query", "key", "value")],
    outputs=[OpSchema.FormalParameter("output", "T")],
    type_constraints=[("T", ["tensor(float)", "tensor(float16)"], "")],
    attributes=[
        OpSchema.Attribute("num_heads", OpSchema.AttrType.INT, required=True),
        OpSchema.Attribute("scale", OpSchema.AttrType.FLOAT, required=False),
    ],
)
_MULTI_HEAD_ATTENTION = Op(Opset(_ENGINE, 1), _SCHEMA.name, _SCHEMA)
Translations = dict[Callable[..., Any], Callable[..., Any]]


def fused_attention() -> Translations:
    """For torch.onnx.export's `custom_translation_table`: scaled_dot_product_attention as one operator."""
    return {torch.ops.aten.scaled_dot_product_attention.default: _attention}


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """query [B, heads, T, d], key and value [B, heads, L, d] -> [B, heads, T, d].

    A mask goes the exporter's usual way: the engine then computes scores anyway, and PAM's masks are short.
    """
    if attn_mask is not None or is_causal or enable_gqa:
        return aten_scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa
        )
    heads, width = query.shape[1], query.shape[3]
    joined = [_join_heads(x) for x in (query, key, value)]
    attended = _MULTI_HEAD_ATTENTION(
        *joined, num_heads=heads, scale=1 / math.sqrt(width) if scale is None else scale
    )
    apart: Any = op.Constant(value_ints=[0, 0, heads, value.shape[3]])  # 0: as it was
    return op.Transpose(op.Reshape(attended, apart), perm=[0, 2, 1, 3])


def _join_heads(x: Any) -> Any:
    """[B, heads, T, d] -> [B, T, heads * d]; undoes what the modules do, so that the optimizer drops both."""
    together: Any = op.Constant(value_ints=[0, 0, x.shape[1] * x.shape[3]])
    return op.Reshape(op.Transpose(x, perm=[0, 2, 1, 3]), together)
