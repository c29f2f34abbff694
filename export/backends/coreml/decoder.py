"""The language model as one CoreML package, built operator by operator, with its cache as the engine's state.

Two functions share the same weights: `prefill` appends up to CHUNK positions, `step` appends one. The program
is built from the configuration and weights by key instead of being converted from a module: weights are read
one at a time and written in their final form, so the float32 model is never whole in memory, and block-wise
integers are the same as in bundles for other engines. Knows no checkpoint format, no prompt and no engine
settings.

`start` is the number of positions in the cache. A query attends to no position after its own, so the padding
of a chunk has no effect, and a rewind is a smaller `start`. Not measured: the magnitude of Qwen2's
activations in float16 between norms (the norms are float32). Nothing here was run on a device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import numpy.typing as npt
from coremltools.converters.mil.converter import mil_convert
from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - what its own documents call it
from coremltools.converters.mil.mil import Function, Program, types

from pam_edge.bundle.config import LanguageConfig
from pam_edge.bundle.manifest import TensorSpec
from pam_edge.export.backends.coreml.graphs import OLDEST
from pam_edge.export.backends.coreml.package import conversion, save_package
from pam_edge.export.backends.coreml.weights import Weights
from pam_edge.export.decoder.tensors import Tensors
from pam_edge.quantize.schemes import Scheme

NAME = "decoder"
PREFILL, STEP = "prefill", "step"
CHUNK = 64  # positions of a prefill call
KEYS, VALUES = "keys", "values"  # the two states, [layers, kv heads, positions, head dim] float16
_SILENCE = np.float16(3e4)  # what a score loses: exp underflows to exactly 0

Progress = Callable[[float], None]
Var = Any  # a value of coremltools' program; its package is not typed


def language2coreml(
    language: LanguageConfig,
    tensor: Tensors,
    path: Path,
    *,
    scheme: Scheme,
    progress: Progress = lambda part: None,
) -> tuple[Path, ...]:
    """Write the decoder as the package `path` (.mlpackage); return its files, the package's manifest first.

    `tensor` gives weights by canonical key (`language.layers.0.self_attn.q_proj.weight`, ...), shapes as in
    Qwen2's own files; it is called once a key. The cache holds `language.max_length` positions. Weights are
    stored as `scheme` says, what it leaves in float32 in float16, since that is what is computed in.
    Raises IntegrityError for a misshaped weight, UsageError for storage that this has not, WontFitError on a
    full disk, EnvironmentProblem where the folder cannot be written.
    """
    weights = Weights(language, tensor, scheme, progress)
    program = Program()
    with conversion():
        for name, count in ((PREFILL, CHUNK), (STEP, 1)):
            program.add_function(name, _Graph(language, weights, count).function())
        program.default_function_name = PREFILL
        program.export_as_multifunction = True
        program.skip_all_passes = True  # nothing to tidy, and several would read every weight
        model = mil_convert(
            program,
            convert_from="milinternal",
            convert_to="mlprogram",
            specification_version=int(OLDEST),
            compute_units=ct.ComputeUnit.CPU_ONLY,
            skip_model_load=True,
        )
    return save_package(model, path)


def decoder_specs(language: LanguageConfig) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of the decoder package, as in bundle.json: `tokens` is CHUNK or 1, by function.

    `last` is the index in a chunk of the position whose logits are wanted; `step` has no such input.
    """
    inputs = (
        TensorSpec(name="embeds", dtype="float32", axes=(1, "tokens", language.hidden_size)),
        TensorSpec(name="start", dtype="int32", axes=(1,)),
        TensorSpec(name="last", dtype="int32", axes=(1,)),
    )
    return inputs, (TensorSpec(name="logits", dtype="float32", axes=(1, language.vocab_size)),)


def positions(language: LanguageConfig) -> int:
    """Extent of the cache: room for a padded chunk after the last position."""
    return language.max_length + CHUNK


class _Graph:
    """One function: `count` positions a call."""

    def __init__(self, language: LanguageConfig, weights: Weights, count: int) -> None:
        self.language, self.weights, self.count = language, weights, count
        self.each = language.heads // language.kv_heads

    def function(self) -> Function:
        lm, count = self.language, self.count
        state = (lm.layers, lm.kv_heads, positions(lm), lm.head_dim)
        given = {
            "embeds": mb.placeholder(shape=(1, count, lm.hidden_size), dtype=types.fp32),
            "start": mb.placeholder(shape=(1,), dtype=types.int32),
            **({"last": mb.placeholder(shape=(1,), dtype=types.int32)} if count > 1 else {}),
            KEYS: mb.state_tensor_placeholder(shape=state, dtype=types.fp16),
            VALUES: mb.state_tensor_placeholder(shape=state, dtype=types.fp16),
        }
        with Function(given, opset_version=OLDEST) as function:
            self.inputs: dict[str, Var] = function.inputs
            x = mb.cast(x=self.inputs["embeds"], dtype="fp16")
            rotation, mask = self.rotation(), self.mask()
            for i in range(lm.layers):
                x = self.layer(i, x, rotation, mask)
            x = self.norm(self.last(x), "language.norm.weight")
            logits = mb.linear(x=x, weight=self.weights.head())
            function.set_outputs([mb.cast(x=logits, dtype="fp32", name="logits")])
        return function

    def layer(self, i: int, x: Var, rotation: tuple[Var, Var], mask: Var) -> Var:
        at = f"language.layers.{i}"
        attended = self.attention(i, self.norm(x, f"{at}.input_layernorm.weight"), rotation, mask)
        x = mb.add(x=x, y=attended)
        h = self.norm(x, f"{at}.post_attention_layernorm.weight")
        gate = mb.silu(x=self.linear(h, f"{at}.mlp.gate_proj"))
        gated = mb.mul(x=gate, y=self.linear(h, f"{at}.mlp.up_proj"))
        return mb.add(x=x, y=self.linear(gated, f"{at}.mlp.down_proj"))

    def attention(self, i: int, x: Var, rotation: tuple[Var, Var], mask: Var) -> Var:
        """Grouped queries as further rows of their group, so that keys and values are never repeated."""
        lm, at = self.language, f"language.layers.{i}.self_attn"
        q = rotate(self.heads(self.linear(x, f"{at}.q_proj"), lm.heads), rotation)
        k = rotate(self.heads(self.linear(x, f"{at}.k_proj"), lm.kv_heads), rotation)
        v = self.heads(self.linear(x, f"{at}.v_proj"), lm.kv_heads)
        q = mb.reshape(x=q, shape=(1, lm.kv_heads, self.each * self.count, lm.head_dim))
        keys, values = self.remember(i, KEYS, k), self.remember(i, VALUES, v)
        out = mb.scaled_dot_product_attention(query=q, key=keys, value=values, attn_mask=mask)
        out = mb.reshape(x=out, shape=(1, lm.heads, self.count, lm.head_dim))
        out = mb.transpose(x=out, perm=(0, 2, 1, 3))
        out = mb.reshape(x=out, shape=(1, self.count, lm.heads * lm.head_dim))
        return self.linear(out, f"{at}.o_proj")

    def remember(self, i: int, state: str, new: Var) -> Var:
        """Write this call's positions into a layer's part of a state; return that part, [1, kv, positions,
        d].
        """
        lm, start = self.language, self.inputs["start"]
        stop = mb.add(x=start, y=np.int32(self.count))
        held = mb.slice_update(
            x=mb.read_state(input=self.inputs[state]),
            update=new,
            begin=mb.concat(values=[_ints([i, 0]), start, _ints([0])], axis=0),
            end=mb.concat(values=[_ints([i + 1, lm.kv_heads]), stop, _ints([lm.head_dim])], axis=0),
        )
        held = mb.coreml_update_state(state=self.inputs[state], value=held)
        size = (1, lm.kv_heads, positions(lm), lm.head_dim)
        return mb.slice_by_size(x=held, begin=_ints([i, 0, 0, 0]), size=_ints(size))

    def rotation(self) -> tuple[Var, Var]:
        """Cosines and sines of this call's positions, [count, head dim / 2] each."""
        lm = self.language
        begin = mb.concat(values=[self.inputs["start"], _ints([0])], axis=0)
        size = _ints([self.count, lm.head_dim // 2])
        cos, sin = (
            mb.slice_by_size(x=self.weights.table(name, wave, positions(lm)), begin=begin, size=size)
            for name, wave in (("cos", np.cos), ("sin", np.sin))
        )
        return cos, sin

    def mask(self) -> Var:
        """0 up to a query's own position, else silence, [groups * count, positions]."""
        own = np.tile(np.arange(self.count, dtype=np.int32), self.each)[:, None]
        places = np.arange(positions(self.language), dtype=np.int32)[None]
        seen = mb.less_equal(x=places, y=mb.add(x=own, y=self.inputs["start"]))
        return mb.mul(x=mb.sub(x=mb.cast(x=seen, dtype="fp16"), y=np.float16(1)), y=_SILENCE)

    def last(self, x: Var) -> Var:
        """The wanted position, [1, hidden]."""
        if self.count > 1:
            begin = mb.concat(values=[_ints([0]), self.inputs["last"], _ints([0])], axis=0)
            x = mb.slice_by_size(x=x, begin=begin, size=_ints([1, 1, self.language.hidden_size]))
        return mb.reshape(x=x, shape=(1, self.language.hidden_size))

    def norm(self, x: Var, key: str) -> Var:
        """Root-mean-square norm, in float32: squares of the residual leave float16's range."""
        wide = mb.cast(x=x, dtype="fp32")
        mean = mb.reduce_mean(x=mb.mul(x=wide, y=wide), axes=[-1], keep_dims=True)
        scale = mb.rsqrt(x=mean, epsilon=np.float32(self.language.rms_norm_eps))
        normed = mb.mul(x=mb.mul(x=wide, y=scale), y=self.weights.vector(key, np.float32))
        return mb.cast(x=normed, dtype="fp16")

    def linear(self, x: Var, key: str) -> Var:
        bias = {"bias": self.weights.vector(f"{key}.bias", np.float16)} if key[-6] in "qkv" else {}
        return mb.linear(x=x, weight=self.weights.matrix(f"{key}.weight"), **bias)

    def heads(self, x: Var, count: int) -> Var:
        """[1, T, count * d] -> [1, count, T, d]."""
        x = mb.reshape(x=x, shape=(1, self.count, count, self.language.head_dim))
        return mb.transpose(x=x, perm=(0, 2, 1, 3))


def _ints(values: Sequence[int]) -> npt.NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


def rotate(x: Var, rotation: tuple[Var, Var]) -> Var:
    """Turn halves against each other: [1, heads, T, d] with cosines and sines [T, d / 2]."""
    cos, sin = rotation
    a, b = mb.split(x=x, num_splits=2, axis=-1)
    turned = mb.sub(x=mb.mul(x=a, y=cos), y=mb.mul(x=b, y=sin))
    other = mb.add(x=mb.mul(x=b, y=cos), y=mb.mul(x=a, y=sin))
    return mb.concat(values=[turned, other], axis=-1)
