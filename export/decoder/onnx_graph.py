"""The decoder's ONNX graph, built node by node from the configuration and a scheme, without its weights.

Qwen2 (arXiv 2407.10671): pre-norm blocks, grouped-query attention with biases on q, k and v only, rotary
positions in the half-split order, SwiGLU. Block-wise matrices are MatMulNBits, all others MatMul.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, cast, get_args

import onnx
from onnx import TensorProto, helper

from pam_edge.bundle.config import LanguageConfig
from pam_edge.bundle.manifest import TensorSpec
from pam_edge.export.checkpoint.keys import EMBED_TOKENS, LM_HEAD
from pam_edge.export.decoder.tensors import ROPE_COS, ROPE_SIN, Band, Weight, bands, paged
from pam_edge.quantize.blockwise import BITS, block_size
from pam_edge.quantize.schemes import Scheme

WEIGHTS, EMBEDDING = "decoder.bin", "embedding.bin"
NAME = "decoder"  # of the graph, in schemes and bundles
_OPSET, _IR = 20, 10
# An engine packs a matrix while it still holds the mapped one: in bands, a tied head is never there twice.
_BAND = 1 << 15
_INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level: 2 to 4 times as fast as float32 ones

Stored = Literal["float32", "float16", "q8", "q4"]
STORED: tuple[Stored, ...] = get_args(Stored)


@dataclass
class DecoderGraph:
    """Collects nodes, and the list of weights they will want: `build`, then read `weights`."""

    language: LanguageConfig
    scheme: Scheme
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)

    def build(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> onnx.ModelProto:
        """The model with these inputs and outputs, weights beside it."""
        lm = self.language
        cos = self.weight("rope.cos", (lm.max_length, lm.head_dim // 2), ROPE_COS)
        sin = self.weight("rope.sin", (lm.max_length, lm.head_dim // 2), ROPE_SIN)
        head = self.head()
        self.last_position()
        residual, hidden = "embeds", "layer.0.normed"
        norm = self.norm_weight("language.layers.0.input_layernorm.weight")
        self.node(
            "SimplifiedLayerNormalization", ["embeds", norm], [hidden], epsilon=lm.rms_norm_eps, axis=-1
        )
        for i in range(lm.layers):
            residual, hidden = self.layer(i, residual, hidden, rope=(cos, sin))
        table = self.logits(hidden, head)
        graph = helper.make_graph(
            self.nodes,
            NAME,
            [_value_info(spec) for spec in inputs],
            [_value_info(spec) for spec in outputs],
            [proto for weight in (*self.weights, *table) for proto in weight.protos()],
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="pam-edge")

    def layer(self, i: int, residual: str, hidden: str, *, rope: tuple[str, str]) -> tuple[str, str]:
        """One block: (residual stream, normed input) to the same two of the next block."""
        lm, at, key = self.language, f"layer.{i}", f"language.layers.{i}"
        width, kv_width = lm.heads * lm.head_dim, lm.kv_heads * lm.head_dim
        projections = {f"{key}.self_attn.{kind}_proj": kv_width for kind in "qkv"}
        projections[f"{key}.self_attn.q_proj"] = width
        qkv = self.linears(hidden, projections, lm.hidden_size, at=f"{at}.qkv", bias=True)
        self.node(
            "GroupQueryAttention",
            [
                *(qkv if len(qkv) == 3 else (*qkv, "", "")),
                *(f"past_key.{i}", f"past_value.{i}", "seqlens_k", "total_sequence_length"),
                *rope,
            ],
            [f"{at}.attended", f"present_key.{i}", f"present_value.{i}"],
            domain="com.microsoft",
            num_heads=lm.heads,
            kv_num_heads=lm.kv_heads,
            do_rotary=1,
        )
        attended = f"{at}.attended"
        is_last = i == lm.layers - 1
        if is_last:  # only the last position's logits are wanted, so the rest of this block needs no other
            attended, residual = (self.take_last(name) for name in (attended, residual))
        out = self.linear(attended, f"{key}.self_attn.o_proj", (width, lm.hidden_size))
        residual, hidden = self.add_and_norm(
            residual, out, f"{key}.post_attention_layernorm.weight", f"{at}.attention"
        )
        gate = self.linear(hidden, f"{key}.mlp.gate_proj", (lm.hidden_size, lm.mlp))
        up = self.linear(hidden, f"{key}.mlp.up_proj", (lm.hidden_size, lm.mlp))
        self.node("Sigmoid", [gate], [f"{at}.sigmoid"])
        self.node("Mul", [gate, f"{at}.sigmoid"], [f"{at}.silu"])
        self.node("Mul", [f"{at}.silu", up], [f"{at}.gated"])
        down = self.linear(f"{at}.gated", f"{key}.mlp.down_proj", (lm.mlp, lm.hidden_size))
        following = "language.norm" if is_last else f"language.layers.{i + 1}.input_layernorm"
        return self.add_and_norm(residual, down, f"{following}.weight", f"{at}.mlp")

    def linears(
        self, x: str, outs: dict[str, int], width: int, *, at: str, bias: bool = False
    ) -> tuple[str, ...]:
        """Several linears of one input [..., width], `outs` wide; one output where one operator does all.

        Blocks of the same bits lie under each other, and are one matrix to the engine.
        """
        stored = {stored_as(self.scheme, f"{key}.weight", (out, width)) for key, out in outs.items()}
        if len(stored) > 1 or not stored & BITS.keys():
            return tuple(self.linear(x, key, (width, out), bias=bias) for key, out in outs.items())
        keys, rows = tuple(outs), tuple(outs.values())
        weight = self.add(
            f"{at}.weight", (sum(rows), width), [f"{k}.weight" for k in keys], rows, stored.pop()
        )
        biases = [f"{key}.bias" for key in keys]
        added = self.add(f"{at}.bias", (sum(rows),), biases, rows, "float32").name if bias else ""
        return (self.blocks(x, weight, f"{at}.out", bias=added),)

    def linear(self, x: str, key: str, shape: tuple[int, int], *, bias: bool = False) -> str:
        """x @ W (+ b), `shape` (in, out)."""
        out = f"{key}.out"
        if stored_as(self.scheme, f"{key}.weight", shape[::-1]) in BITS:
            stored = stored_as(self.scheme, f"{key}.weight", shape[::-1])
            weight = self.add(f"{key}.weight", shape[::-1], [f"{key}.weight"], [shape[1]], stored)
            added = self.weight(f"{key}.bias", shape[1:], f"{key}.bias") if bias else ""
            return self.blocks(x, weight, out, bias=added)
        # Files hold (out, in); the engine repacks weights at load, in half the time from (in, out).
        dense = self.weight(f"{key}.weight", shape, f"{key}.weight", transpose=True)
        self.node("MatMul", [x, dense], [f"{key}.product" if bias else out])
        if bias:
            self.node("Add", [f"{key}.product", self.weight(f"{key}.bias", shape[1:], f"{key}.bias")], [out])
        return out

    def blocks(self, x: str, weight: Weight | Band, out: str, *, bias: str = "") -> str:
        """x @ W^T (+ b) with W in blocks."""
        rows, width = weight.shape
        self.node(
            "MatMulNBits",
            [x, weight.name, weight.scales, *(("", "", bias) if bias else ())],
            [out],
            domain="com.microsoft",
            K=width,
            N=rows,
            bits=BITS[weight.storage],
            block_size=block_size(width),
            accuracy_level=_INT8_ACTIVATIONS,
        )
        return out

    def head(self) -> Weight:
        """The head's weight; a tied one lies in the embedding's file."""
        lm = self.language
        if lm.tied:
            return replace(table_weight(lm, self.scheme), name="head")
        key, shape = LM_HEAD, (lm.vocab_size, lm.hidden_size)
        return self.add("head", shape, [key], [lm.vocab_size], stored_as(self.scheme, key, shape))

    def logits(self, hidden: str, head: Weight) -> tuple[Weight | Band, ...]:
        """[B, H] to `logits`; the weights that this reads from the embedding's file."""
        if head.storage not in BITS:
            # Stored [V, H] as the embedding is, and read transposed: one copy on disk serves both.
            self.node("Gemm", [hidden, self.widened(head)], ["logits"], transB=1)
            return (head,) if self.language.tied else ()
        if not self.language.tied:
            self.blocks(hidden, head, "logits")
            return ()
        parts = bands(head, _BAND)
        if len(parts) == 1:
            self.blocks(hidden, head, "logits")
        else:
            outs = [self.blocks(hidden, part, f"{part.name}.logits") for part in parts]
            self.node("Concat", outs, ["logits"], axis=-1)
        return parts

    def add_and_norm(self, residual: str, x: str, norm: str, at: str) -> tuple[str, str]:
        """(residual + x, its RMS norm)."""
        self.node(
            "SkipSimplifiedLayerNormalization",
            [residual, x, self.norm_weight(norm)],
            [f"{at}.normed", "", "", f"{at}.sum"],
            domain="com.microsoft",
            epsilon=self.language.rms_norm_eps,
        )
        return f"{at}.sum", f"{at}.normed"

    def last_position(self) -> None:
        """Index of each row's last position among this call's, [B, 1].

        Rows differ only in a first, padded prompt, where `seqlens_k` is that index; in every other call all
        positions are real and `seqlens_k` is no less than the last one's.
        """
        self.node("Shape", ["embeds"], ["tokens"], start=1, end=2)
        self.nodes.append(helper.make_node("Constant", [], ["one"], name="one", value_ints=[1]))
        self.node("Sub", ["tokens", "one"], ["tokens.last"])
        self.node("Cast", ["seqlens_k"], ["row.last"], to=TensorProto.INT64)
        self.node("Min", ["row.last", "tokens.last"], ["last.flat"])
        self.node("Unsqueeze", ["last.flat", "one"], ["last"])

    def take_last(self, x: str) -> str:
        """[B, T, width] to [B, width]."""
        self.node("GatherND", [x, "last"], [f"{x}.last"], batch_dims=1)
        return f"{x}.last"

    def norm_weight(self, key: str) -> str:
        return self.weight(key, (self.language.hidden_size,), key)

    def weight(self, name: str, shape: tuple[int, ...], key: str, *, transpose: bool = False) -> str:
        """A weight of one tensor, as float32 where it is read."""
        stored = stored_as(self.scheme, key, shape)
        return self.widened(self.add(name, shape, [key], shape[:1], stored, transpose=transpose))

    def add(
        self,
        name: str,
        shape: tuple[int, ...],
        keys: Sequence[str],
        rows: Sequence[int],
        storage: Stored,
        *,
        transpose: bool = False,
    ) -> Weight:
        """Give a weight its place in the weights' file."""
        start = paged(self.weights[-1].end) if self.weights else 0
        weight = Weight(name, shape, tuple(keys), tuple(rows), storage, WEIGHTS, start, transpose)
        self.weights.append(weight)
        return weight

    def widened(self, weight: Weight) -> str:
        """The weight as float32: engines widen what is stored in fewer bits once, at load."""
        if weight.storage == "float32":
            return weight.name
        self.node("Cast", [weight.name], [f"{weight.name}.wide"], to=TensorProto.FLOAT)
        return f"{weight.name}.wide"

    def node(
        self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: int | float
    ) -> None:
        node = helper.make_node(op, inputs, outputs, name=outputs[0], domain=domain)
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        self.nodes.append(node)


def table_weight(language: LanguageConfig, scheme: Scheme) -> Weight:
    """The token embedding in its file."""
    shape = (language.vocab_size, language.hidden_size)
    stored = stored_as(scheme, EMBED_TOKENS, shape)
    return Weight("embedding", shape, (EMBED_TOKENS,), shape[:1], stored, EMBEDDING)


def stored_as(scheme: Scheme, key: str, shape: tuple[int, ...]) -> Stored:
    """How the decoder stores a weight. Raises UsageError for what it cannot."""
    if key in (ROPE_COS, ROPE_SIN):
        return "float32"
    return cast("Stored", scheme.stored(NAME, key, shape, possible=STORED))


def finely_stored_as(scheme: Scheme, key: str, shape: tuple[int, ...]) -> Stored:
    """The same where 4-bit blocks have scales above zero alone, which lose a little more: keys and values in
    no less than 8 bits. They are a twentieth of a layer, and every later position reads what they give.
    """
    storage = stored_as(scheme, key, shape)
    return "q8" if storage == "q4" and key.endswith(("k_proj.weight", "v_proj.weight")) else storage


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    dtype = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}[spec.dtype]
    return helper.make_tensor_value_info(spec.name, dtype, list(spec.axes))
