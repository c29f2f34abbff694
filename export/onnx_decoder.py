"""The language model as one ONNX graph for ONNX Runtime, built node by node, weights streamed beside it.

The graph is written from the configuration alone; weights then pass through one at a time, so the memory this
needs is that of the largest tensor, however big the model. It uses ONNX Runtime's own operators
(`com.microsoft`) because they keep the cache in place. This module knows no checkpoint format, no prompt and
no engine settings.

Qwen2 (arXiv 2407.10671): pre-norm blocks, grouped-query attention with biases on q, k and v alone, rotary
positions in the half-split order, SwiGLU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from pam_edge.bundle import Embedding, FileRef, TensorSpec
from pam_edge.config import LanguageConfig
from pam_edge.errors import IntegrityError, UsageError, cannot_write
from pam_edge.quantize.fp16 import halved
from pam_edge.quantize.schemes import FP32, Scheme, Storage

GRAPH, WEIGHTS, EMBEDDING = "decoder.onnx", "decoder.bin", "embedding.bin"
PAGE = 4096  # weights start on a page, so that engines can map them
_OPSET, _IR = 20, 10
_EMBED_TOKENS = "language.embed_tokens.weight"
_ROPE_COS, _ROPE_SIN = "rope.cos", "rope.sin"  # computed, not read

Floats = npt.NDArray[np.float32]
Tensors = Callable[[str], npt.ArrayLike]  # canonical key -> weight, float32
Progress = Callable[[int, int], None]  # bytes written, bytes in all


def language2onnx(
    language: LanguageConfig,
    tensor: Tensors,
    folder: Path,
    *,
    scheme: Scheme = FP32,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Write `decoder.onnx`, `decoder.bin` and `embedding.bin` into `folder`; return them in that order.

    `tensor` gives weights by canonical key (`language.layers.0.self_attn.q_proj.weight`, ...), shapes as in
    Qwen2's own files. It is called once a key; nothing it returns is kept. `embedding.bin` is the embedding
    [V, H], row-major, stored as `scheme` says, and where `language.tied` the graph's head as well.
    Raises IntegrityError for a misshaped weight, WontFitError on a full disk, EnvironmentProblem where the
    folder cannot be written.
    """
    graph = _Decoder(language, scheme)
    model = graph.build()
    files = (folder / GRAPH, folder / WEIGHTS, folder / EMBEDDING)
    shape = (language.vocab_size, language.hidden_size)
    embedding = _Weight("embedding", shape, _EMBED_TOKENS, _storage(scheme, _EMBED_TOKENS, shape))
    total, done = sum(w.bytes for w in (*graph.weights, embedding)), 0
    try:
        with files[1].open("wb") as weights, files[2].open("wb") as table:
            for weight, file in [*((w, weights) for w in graph.weights), (embedding, table)]:
                _append(file, weight, _values(weight, tensor, language))
                done += weight.bytes
                if progress is not None:
                    progress(done, total)
        files[0].write_bytes(model.SerializeToString(deterministic=True))
    except OSError as e:
        raise cannot_write(f"the decoder into {folder}", e) from e
    return files


def embedding_record(language: LanguageConfig, scheme: Scheme, file: FileRef) -> Embedding:
    """What bundle.json says of the `embedding.bin` that `language2onnx` wrote at that scheme."""
    shape = (language.vocab_size, language.hidden_size)
    return Embedding(file=file, dtype=_storage(scheme, _EMBED_TOKENS, shape), shape=shape)


def decoder_specs(language: LanguageConfig) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of the decoder graph, as in bundle.json.

    `seqlens_k` is each row's length after this call, minus one; `total_sequence_length` the longest row's
    length after it. `present_*` may be the same memory as `past_*`. With more than one position a call and
    something in the cache, the engine takes one row at a time.
    """

    def cache(prefix: str, positions: str) -> Iterator[TensorSpec]:
        axes = ("batch", language.kv_heads, positions, language.head_dim)
        for i in range(language.layers):
            for kind in ("key", "value"):
                yield TensorSpec(name=f"{prefix}_{kind}.{i}", dtype="float32", axes=axes)

    inputs = (
        TensorSpec(name="embeds", dtype="float32", axes=("batch", "tokens", language.hidden_size)),
        TensorSpec(name="seqlens_k", dtype="int32", axes=("batch",)),
        TensorSpec(name="total_sequence_length", dtype="int32", axes=()),
        *cache("past", "capacity"),
    )
    logits = TensorSpec(name="logits", dtype="float32", axes=("batch", language.vocab_size))
    return inputs, (logits, *cache("present", "present"))


@dataclass(frozen=True)
class _Weight:
    """One tensor of the graph: where it comes from, and where its bytes go."""

    name: str
    shape: tuple[int, ...]  # as the graph reads it
    key: str
    storage: Storage
    transpose: bool = False
    offset: int = 0

    @property
    def bytes(self) -> int:
        return np.dtype(self.storage).itemsize * int(np.prod(self.shape))

    def proto(self, location: str) -> TensorProto:
        dtype = TensorProto.FLOAT if self.storage == "float32" else TensorProto.FLOAT16
        proto = TensorProto(name=self.name, data_type=dtype, data_location=TensorProto.EXTERNAL)
        proto.dims.extend(self.shape)
        for key, value in (("location", location), ("offset", self.offset), ("length", self.bytes)):
            proto.external_data.add(key=key, value=str(value))
        return proto


@dataclass
class _Decoder:
    """Collects nodes, and the list of weights they will want."""

    language: LanguageConfig
    scheme: Scheme
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[_Weight] = field(default_factory=list)
    end: int = 0  # of the weights' file, bytes

    def build(self) -> onnx.ModelProto:
        lm = self.language
        cos = self.weight("rope.cos", (lm.max_length, lm.head_dim // 2), _ROPE_COS)
        sin = self.weight("rope.sin", (lm.max_length, lm.head_dim // 2), _ROPE_SIN)
        head_shape = (lm.vocab_size, lm.hidden_size)
        shared = []
        if lm.tied:
            tied = _Weight(
                "head", head_shape, _EMBED_TOKENS, _storage(self.scheme, _EMBED_TOKENS, head_shape)
            )
            head, shared = self.widened(tied), [tied.proto(EMBEDDING)]
        else:
            head = self.weight("head", head_shape, "language.lm_head.weight")
        self.last_position()
        residual, hidden = "embeds", "layer.0.normed"
        norm = self.norm_weight("language.layers.0.input_layernorm.weight")
        self.node(
            "SimplifiedLayerNormalization", ["embeds", norm], [hidden], epsilon=lm.rms_norm_eps, axis=-1
        )
        for i in range(lm.layers):
            residual, hidden = self.layer(i, residual, hidden, rope=(cos, sin))
        # The head is stored [V, H] as the embedding is, and read transposed: one copy on disk serves both.
        self.node("Gemm", [hidden, head], ["logits"], transB=1)
        inputs, outputs = decoder_specs(lm)
        graph = helper.make_graph(
            self.nodes,
            "decoder",
            [_value_info(spec) for spec in inputs],
            [_value_info(spec) for spec in outputs],
            [w.proto(WEIGHTS) for w in self.weights] + shared,
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="pam-edge")

    def layer(self, i: int, residual: str, hidden: str, *, rope: tuple[str, str]) -> tuple[str, str]:
        """One block: (residual stream, normed input) to the same two of the next block."""
        lm, at, key = self.language, f"layer.{i}", f"language.layers.{i}"
        q_shape, kv_shape = (
            (lm.hidden_size, lm.heads * lm.head_dim),
            (lm.hidden_size, lm.kv_heads * lm.head_dim),
        )
        q = self.linear(hidden, f"{key}.self_attn.q_proj", q_shape, bias=True)
        k = self.linear(hidden, f"{key}.self_attn.k_proj", kv_shape, bias=True)
        v = self.linear(hidden, f"{key}.self_attn.v_proj", kv_shape, bias=True)
        self.node(
            "GroupQueryAttention",
            [q, k, v, f"past_key.{i}", f"past_value.{i}", "seqlens_k", "total_sequence_length", *rope],
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
        out = self.linear(attended, f"{key}.self_attn.o_proj", q_shape[::-1])
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

    def linear(self, x: str, key: str, shape: tuple[int, int], *, bias: bool = False) -> str:
        """x @ W (+ b), `shape` (in, out). The one place that decides how a weight is kept and multiplied."""
        out = f"{key}.out"
        # Files hold (out, in); the engine repacks weights at load, in half the time from (in, out).
        weight = self.weight(f"{key}.weight", shape, f"{key}.weight", transpose=True)
        self.node("MatMul", [x, weight], [f"{key}.product" if bias else out])
        if bias:
            self.node("Add", [f"{key}.product", self.weight(f"{key}.bias", shape[1:], f"{key}.bias")], [out])
        return out

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
        weight = _Weight(
            name, shape, key, _storage(self.scheme, key, shape), transpose, offset=-(-self.end // PAGE) * PAGE
        )
        self.weights.append(weight)
        self.end = weight.offset + weight.bytes
        return self.widened(weight)

    def widened(self, weight: _Weight) -> str:
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


def _storage(scheme: Scheme, key: str, shape: tuple[int, ...]) -> Literal["float32", "float16"]:
    storage = "float32" if key in (_ROPE_COS, _ROPE_SIN) else scheme.storage("decoder", key, shape)
    if storage not in ("float32", "float16"):
        raise UsageError(f"scheme {scheme.name} is not possible for graph decoder in this version")
    return storage


def _values(weight: _Weight, tensor: Tensors, language: LanguageConfig) -> npt.NDArray[np.floating[Any]]:
    if weight.key in (_ROPE_COS, _ROPE_SIN):
        return rope_table(language, np.cos if weight.key == _ROPE_COS else np.sin)
    values = np.asarray(tensor(weight.key), dtype=np.float32)
    wanted = weight.shape[::-1] if weight.transpose else weight.shape
    if values.shape != wanted:
        raise IntegrityError(f"{weight.key} has shape {values.shape} where the variant wants {wanted}")
    laid_out = np.ascontiguousarray(values.T if weight.transpose else values)
    return laid_out if weight.storage == "float32" else halved(laid_out, weight.key)


def rope_table(
    language: LanguageConfig, wave: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
) -> Floats:
    """`wave` (cos or sin) of position x frequency, [max_length, head_dim / 2].

    Angles are float64: in float32, those of late positions are off by more than the table's own rounding.
    """
    frequencies = language.rope_theta ** (-np.arange(0, language.head_dim, 2) / language.head_dim)
    return wave(np.outer(np.arange(language.max_length), frequencies)).astype(np.float32)


def _append(file: BinaryIO, weight: _Weight, values: npt.NDArray[np.floating[Any]]) -> None:
    file.write(bytes(weight.offset - file.tell()))
    file.write(values.data)


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    dtype = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}[spec.dtype]
    return helper.make_tensor_value_info(spec.name, dtype, list(spec.axes))
