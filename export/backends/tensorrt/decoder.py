"""The language model as one ONNX graph of standard operators, for engines that compute in the graph's types.

Qwen2 (arXiv 2407.10671) node by node, with weights in a file beside it. The cache is read from buffers of a
capacity that the caller chooses, in two parts: the first `position` entries of the buffers, and the keys and
values of this call, which are outputs (`new_*`) that the caller writes after the others. So no step copies
the cache. The residual stream, norms, rotary positions, softmax and the gate are float32 in any scheme,
because Qwen2's values exceed the range of float16 there. Knows no checkpoint format and no engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from pam_edge.bundle.config import LanguageConfig
from pam_edge.bundle.manifest import TensorSpec
from pam_edge.core.errors import cannot_write
from pam_edge.export.backends.tensorrt.nodes import Nodes
from pam_edge.export.backends.tensorrt.weights import Matrix, protos, write_matrix
from pam_edge.export.checkpoint.keys import EMBED_TOKENS, LM_HEAD
from pam_edge.export.decoder.embedding_file import language2embedding
from pam_edge.export.decoder.onnx_graph import NAME, WEIGHTS
from pam_edge.export.decoder.tensors import Tensors, rope_table
from pam_edge.quantize.schemes import Scheme

GRAPH = "decoder.onnx"
OPSET, IR = 21, 10  # 21: the first whose DequantizeLinear has int4 and blocks
MASKED = -3e4
Progress = Callable[[int, int], None]  # bytes written, bytes in all


def cached_decoder_specs(
    language: LanguageConfig, *, half: bool
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of the graph, as in bundle.json.

    `position` is each row's length before this call; `past_*` beyond it must be numbers, and count for
    nothing. `new_*` are this call's positions.
    """
    kind = "float16" if half else "float32"

    def cache(prefix: str, positions: str) -> list[TensorSpec]:
        axes = ("batch", language.kv_heads, positions, language.head_dim)
        names = [f"{prefix}_{part}.{i}" for i in range(language.layers) for part in ("key", "value")]
        return [TensorSpec(name=name, dtype=kind, axes=axes) for name in names]  # type: ignore[arg-type]

    inputs = (
        TensorSpec(name="embeds", dtype="float32", axes=("batch", "tokens", language.hidden_size)),
        TensorSpec(name="position", dtype="int64", axes=("batch",)),
        *cache("past", "capacity"),
    )
    logits = TensorSpec(name="logits", dtype="float32", axes=("batch", language.vocab_size))
    return inputs, (logits, *cache("new", "tokens"))


def language2cached(
    language: LanguageConfig,
    tensor: Tensors,
    folder: Path,
    *,
    scheme: Scheme,
    progress: Progress = lambda done, count: None,
) -> tuple[Path, ...]:
    """Write `decoder.onnx`, `decoder.bin` and `embedding.bin` into `folder`; return them in that order.

    `tensor` gives weights by canonical key, shapes as in Qwen2's own files. Raises IntegrityError for a
    weight that is misshaped or no number, WontFitError on a full disk, EnvironmentProblem where nothing can
    be written.
    """
    graph = CachedDecoder(language, scheme)
    model = graph.build(tensor)
    path, total = folder / WEIGHTS, max(1, graph.end)
    try:
        with path.open("wb") as file:
            for matrix in graph.matrices:
                write_matrix(file, matrix, tensor)
                progress(matrix.end, total)
        (folder / GRAPH).write_bytes(model.SerializeToString(deterministic=True))
    except OSError as e:
        raise cannot_write(f"the decoder into {folder}", e) from e
    return (folder / GRAPH, path, language2embedding(language, tensor, folder, scheme=scheme))


def planned_matrices(language: LanguageConfig, scheme: Scheme) -> tuple[Matrix, ...]:
    """Every matrix of the file that `language2cached` writes."""
    graph = CachedDecoder(language, scheme)
    graph.build(None)
    return tuple(graph.matrices)


class CachedDecoder(Nodes):
    """Puts the graph together: `build`, then read `matrices`."""

    def __init__(self, language: LanguageConfig, scheme: Scheme) -> None:
        super().__init__(scheme)
        self.language = language

    def build(self, tensor: Tensors | None) -> onnx.ModelProto:
        """The model, weights beside it but for vectors; without `tensor` only the places are right."""
        lm = self.language
        self.frame()
        x = "embeds"
        for i in range(lm.layers):
            x = self.layer(i, x, tensor)
        hidden = self.norm(x, "language.norm.weight", tensor, "final")
        self.logits(hidden)
        inputs, outputs = cached_decoder_specs(lm, half=self.half)
        graph = helper.make_graph(
            self.nodes,
            NAME,
            [_value_info(spec) for spec in inputs],
            [_value_info(spec) for spec in outputs],
            [*self.small, *protos(self.matrices, WEIGHTS)],
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="pam-edge")

    def frame(self) -> None:
        """What all layers share: rotations of this call's positions, and who sees whom."""
        lm = self.language
        for name, wave in (("cos", np.cos), ("sin", np.sin)):
            self.constant(f"rope.{name}", rope_table(lm, wave))
        for name, axis in (("batch", 0), ("tokens", 1)):
            self.node("Shape", ["embeds"], [name], start=axis, end=axis + 1)
        self.node("Shape", ["past_key.0"], ["capacity"], start=2, end=3)
        zero, one = self.integers("zero", 0), self.integers("one", 1)
        for name, extent in (("steps", "tokens"), ("slots", "capacity")):
            self.node("Squeeze", [extent, self.integers("axis.0", [0])], [f"{extent}.count"])
            self.node("Range", [zero, f"{extent}.count", one], [name])
        self.node("Unsqueeze", ["position", self.integers("axis.1", [1])], ["position.column"])
        self.node("Add", ["position.column", "steps"], ["positions"])
        for name in ("cos", "sin"):
            self.node("Gather", [f"rope.{name}", "positions"], [f"{name}.rows"])
            self.node("Unsqueeze", [f"{name}.rows", self.integers("axis.2", [2])], [name])  # [B, T, 1, d / 2]
        nothing, masked = self.number("mask.seen", 0.0), self.number("mask.unseen", MASKED)
        self.node("Less", ["slots", "position.column"], ["held"])  # [B, P]
        self.node("Where", ["held", nothing, masked], ["held.mask"])
        self.node("Unsqueeze", ["held.mask", self.integers("axes.12", [1, 2])], ["held.mask.4"])
        self.node("Unsqueeze", ["steps", "axis.1"], ["steps.column"])
        self.node("LessOrEqual", ["steps", "steps.column"], ["causal"])  # [T, T]
        self.node("Where", ["causal", nothing, masked], ["causal.mask"])
        each = self.integers("group", [lm.heads // lm.kv_heads])
        self.node("Mul", [each, "tokens"], ["rows"])  # of one kv head: its query heads' positions
        self.node("Concat", ["batch", each, "tokens", "capacity"], ["past.shape"], axis=0)
        self.node("Concat", ["batch", each, "tokens", "tokens"], ["new.shape"], axis=0)
        self.node("Expand", ["held.mask.4", "past.shape"], ["past.mask"])
        self.node("Expand", ["causal.mask", "new.shape"], ["new.mask"])
        self.node("Concat", ["past.mask", "new.mask"], ["mask.grouped"], axis=3)
        self.node("Concat", ["batch", "axis.1", "rows", self.integers("rest", [-1])], ["mask.shape"], axis=0)
        self.node("Reshape", ["mask.grouped", "mask.shape"], ["mask"])  # [B, 1, rows, P + T]

    def layer(self, i: int, x: str, tensor: Tensors | None) -> str:
        """One block, float32 [B, T, H] to the same; the last block keeps the last position alone."""
        lm, at, key = self.language, f"layer.{i}", f"language.layers.{i}"
        width, kv_width = lm.heads * lm.head_dim, lm.kv_heads * lm.head_dim
        hidden = self.norm(x, f"{key}.input_layernorm.weight", tensor, f"{at}.in")
        q, k, v = (
            self.biased(hidden, f"{key}.self_attn.{kind}_proj", (lm.hidden_size, out), tensor)
            for kind, out in (("q", width), ("k", kv_width), ("v", kv_width))
        )
        attended = self.attention(i, q, k, v)
        if i == lm.layers - 1:
            attended, x = (self.last(name) for name in (attended, x))
        out = self.linear(attended, f"{key}.self_attn.o_proj", (width, lm.hidden_size))
        self.node("Add", [x, self.wide(out)], [f"{at}.attention"])
        hidden = self.norm(f"{at}.attention", f"{key}.post_attention_layernorm.weight", tensor, f"{at}.post")
        gate, up = (
            self.wide(self.linear(hidden, f"{key}.mlp.{kind}_proj", (lm.hidden_size, lm.mlp)))
            for kind in ("gate", "up")
        )
        self.node("Sigmoid", [gate], [f"{at}.sigmoid"])
        self.node("Mul", [gate, f"{at}.sigmoid"], [f"{at}.silu"])
        self.node("Mul", [f"{at}.silu", up], [f"{at}.gated"])
        down = self.linear(self.narrow(f"{at}.gated"), f"{key}.mlp.down_proj", (lm.mlp, lm.hidden_size))
        self.node("Add", [f"{at}.attention", self.wide(down)], [f"{at}.out"])
        return f"{at}.out"

    def attention(self, i: int, q: str, k: str, v: str) -> str:
        """Float32 projections to what is attended, [B, T, heads * d] as products want it."""
        lm, at = self.language, f"layer.{i}.attn"
        each, d = lm.heads // lm.kv_heads, lm.head_dim
        scale = self.number("scale", 1 / math.sqrt(d))
        self.node("Mul", [self.rotated(q, lm.heads, f"{at}.q"), scale], [f"{at}.q.scaled"])
        grouped = self.shape("queries", [0, 0, lm.kv_heads, each, d])
        self.node("Reshape", [self.narrow(f"{at}.q.scaled"), grouped], [f"{at}.q.grouped"])
        self.node("Transpose", [f"{at}.q.grouped"], [f"{at}.q.turned"], perm=[0, 2, 3, 1, 4])
        rows = self.shape("query.rows", [0, lm.kv_heads, -1, d])
        self.node("Reshape", [f"{at}.q.turned", rows], [f"{at}.q.rows"])  # [B, kv, rows, d]
        self.node("Reshape", [v, self.shape("values", [0, 0, lm.kv_heads, d])], [f"{at}.v.heads"])
        new = {
            "key": self.narrow(self.rotated(k, lm.kv_heads, f"{at}.k")),
            "value": self.narrow(f"{at}.v.heads"),
        }
        for part, name in new.items():
            self.node("Transpose", [name], [f"new_{part}.{i}"], perm=[0, 2, 1, 3])
        for part in ("past", "new"):
            self.node("Transpose", [f"{part}_key.{i}"], [f"{at}.{part}.k"], perm=[0, 1, 3, 2])
            self.node("MatMul", [f"{at}.q.rows", f"{at}.{part}.k"], [f"{at}.{part}.scores"])
        self.node("Concat", [f"{at}.past.scores", f"{at}.new.scores"], [f"{at}.scores"], axis=3)
        self.node("Add", [self.wide(f"{at}.scores"), "mask"], [f"{at}.masked"])
        self.node("Softmax", [f"{at}.masked"], [f"{at}.weights"], axis=3)
        weights, zero, end = self.narrow(f"{at}.weights"), "axis.0", self.integers("end", [2**31 - 1])
        axis = self.integers("axis.3", [3])
        self.node("Slice", [weights, zero, "capacity", axis], [f"{at}.past.weights"])
        self.node("Slice", [weights, "capacity", end, axis], [f"{at}.new.weights"])
        for part in ("past", "new"):
            self.node("MatMul", [f"{at}.{part}.weights", f"{part}_value.{i}"], [f"{at}.{part}.sum"])
        self.node("Add", [f"{at}.past.sum", f"{at}.new.sum"], [f"{at}.sum"])
        split = self.shape("attended", [0, 0, each, -1, d])
        self.node("Reshape", [f"{at}.sum", split], [f"{at}.split"])
        self.node("Transpose", [f"{at}.split"], [f"{at}.back"], perm=[0, 3, 1, 2, 4])
        self.node("Reshape", [f"{at}.back", self.shape("joined", [0, 0, lm.heads * d])], [f"{at}.attended"])
        return f"{at}.attended"

    def rotated(self, x: str, heads: int, at: str) -> str:
        """[B, T, heads * d] to [B, T, heads, d], halves turned against each other."""
        d = self.language.head_dim
        self.node("Reshape", [x, self.shape(f"heads.{heads}", [0, 0, heads, d])], [f"{at}.heads"])
        self.node("Split", [f"{at}.heads"], [f"{at}.a", f"{at}.b"], axis=3, num_outputs=2)
        for name, one, other, op in (("first", "a", "b", "Sub"), ("second", "b", "a", "Add")):
            self.node("Mul", [f"{at}.{one}", "cos"], [f"{at}.{name}.cos"])
            self.node("Mul", [f"{at}.{other}", "sin"], [f"{at}.{name}.sin"])
            self.node(op, [f"{at}.{name}.cos", f"{at}.{name}.sin"], [f"{at}.{name}"])
        self.node("Concat", [f"{at}.first", f"{at}.second"], [f"{at}.rotated"], axis=3)
        return f"{at}.rotated"

    def norm(self, x: str, key: str, tensor: Tensors | None, at: str) -> str:
        """RMS norm of float32, as products want it."""
        weight = self.vector(key, self.language.hidden_size, tensor)
        self.node("Mul", [x, x], [f"{at}.squares"])
        self.node(
            "ReduceMean", [f"{at}.squares", self.integers("axis.last", [-1])], [f"{at}.mean"], keepdims=1
        )
        self.node("Add", [f"{at}.mean", self.number("epsilon", self.language.rms_norm_eps)], [f"{at}.more"])
        self.node("Sqrt", [f"{at}.more"], [f"{at}.root"])
        self.node("Div", [x, f"{at}.root"], [f"{at}.unit"])
        self.node("Mul", [f"{at}.unit", weight], [f"{at}.normed"])
        return self.narrow(f"{at}.normed")

    def logits(self, hidden: str) -> None:
        """[B, 1, H] to `logits`, in float32."""
        lm = self.language
        key = EMBED_TOKENS if lm.tied else LM_HEAD
        kind = self.kind(key, (lm.vocab_size, lm.hidden_size))
        head = self.matrix(
            key, (lm.vocab_size, lm.hidden_size), "int8" if kind == "int4" else kind, upright=True
        )
        self.node("Squeeze", [hidden, self.integers("axis.1", [1])], ["hidden.last"])
        product = "logits.half" if self.half else "logits"
        self.node("Gemm", ["hidden.last", head], [product], transB=1)
        if self.half:
            self.node("Cast", [product], ["logits"], to=TensorProto.FLOAT)

    def last(self, x: str) -> str:
        """[B, T, width] to [B, 1, width]."""
        self.node("Slice", [x, "rest", self.integers("end", [2**31 - 1]), "axis.1"], [f"{x}.last"])
        return f"{x}.last"


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    kinds = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}
    return helper.make_tensor_value_info(spec.name, kinds[spec.dtype], list(spec.axes))
