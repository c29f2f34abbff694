"""The decoder graph in plain numpy: an independent answer to hold engines against, at no speed at all.

Qwen2 (arXiv 2407.10671) written from its definition, with the decoder graph's inputs and outputs. It knows
neither the exported file nor any engine, so agreement with one means that both are right.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pam_edge.bundle.config import LanguageConfig
from pam_edge.runtimes.common.session import Array, Floats


class ReferenceSession:
    """`Session` of the decoder graph, over weights by canonical key (`language.norm.weight`, ...)."""

    def __init__(self, language: LanguageConfig, weights: Mapping[str, Floats]) -> None:
        self._language, self._weights = language, weights

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One call of the decoder graph. Rows may differ in what they hold; each appends all T positions."""
        rows = []
        for b, embeds in enumerate(feeds["embeds"]):
            length = int(feeds["seqlens_k"][b]) + 1 - len(embeds)
            past = {name: array[b, :, :length] for name, array in feeds.items() if name.startswith("past_")}
            rows.append(self._row(embeds, past, length))
        total = int(feeds["total_sequence_length"])
        outputs = {}
        for name in rows[0]:
            arrays = [row[name] for row in rows]
            if name.startswith("present_"):
                arrays = [np.pad(a, ((0, 0), (0, total - a.shape[1]), (0, 0))) for a in arrays]
            outputs[name] = np.stack(arrays)
        return outputs

    def _row(self, x: Floats, past: Mapping[str, Floats], length: int) -> dict[str, Floats]:
        lm, outputs = self._language, {}
        turn = _rotations(lm, length, len(x))
        for i in range(lm.layers):
            at = f"language.layers.{i}"
            h = self._norm(x, f"{at}.input_layernorm.weight")
            q = _rotate(_heads(self._linear(h, f"{at}.self_attn.q_proj"), lm.heads), turn)
            k = _rotate(_heads(self._linear(h, f"{at}.self_attn.k_proj"), lm.kv_heads), turn)
            v = _heads(self._linear(h, f"{at}.self_attn.v_proj"), lm.kv_heads)
            k = np.concatenate([past[f"past_key.{i}"], k], axis=1)
            v = np.concatenate([past[f"past_value.{i}"], v], axis=1)
            outputs[f"present_key.{i}"], outputs[f"present_value.{i}"] = k, v
            x = x + self._linear(_attend(q, k, v), f"{at}.self_attn.o_proj")
            h = self._norm(x, f"{at}.post_attention_layernorm.weight")
            gate = self._linear(h, f"{at}.mlp.gate_proj")
            gated = gate / (1 + np.exp(-gate)) * self._linear(h, f"{at}.mlp.up_proj")
            x = x + self._linear(gated, f"{at}.mlp.down_proj")
        head = "language.embed_tokens.weight" if lm.tied else "language.lm_head.weight"
        outputs["logits"] = self._norm(x[-1], "language.norm.weight") @ self._weights[head].T
        return outputs

    def _linear(self, x: Floats, key: str) -> Floats:
        y: Floats = x @ self._weights[f"{key}.weight"].T
        bias = self._weights.get(f"{key}.bias")
        return y if bias is None else y + bias

    def _norm(self, x: Floats, key: str) -> Floats:
        scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(self._language.rms_norm_eps))
        normed: Floats = x / scale * self._weights[key]
        return normed


def _heads(x: Floats, count: int) -> Floats:
    """[T, count * d] to [count, T, d]."""
    return x.reshape(len(x), count, -1).swapaxes(0, 1)


def _rotations(language: LanguageConfig, start: int, count: int) -> tuple[Floats, Floats]:
    """cos and sin of the angles of positions `start`.., each [count, head_dim / 2]."""
    frequencies = language.rope_theta ** (-np.arange(0, language.head_dim, 2) / language.head_dim)
    angles = np.arange(start, start + count)[:, None] * frequencies
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotate(x: Floats, turn: tuple[Floats, Floats]) -> Floats:
    """Rotary positions: dimension j is paired with j + d/2."""
    (cos, sin), (a, b) = turn, np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _attend(q: Floats, k: Floats, v: Floats) -> Floats:
    """Causal attention of [heads, T, d] over [kv heads, P + T, d], to [T, heads * d]."""
    heads, count, width = q.shape
    k, v = (np.repeat(a, heads // len(a), axis=0) for a in (k, v))
    scores = q @ k.swapaxes(1, 2) / np.float32(np.sqrt(width))
    ahead = np.triu(np.ones((count, k.shape[1]), dtype=bool), k=k.shape[1] - count + 1)
    scores = np.where(ahead, np.float32(-np.inf), scores)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    attended: Floats = scores / scores.sum(axis=-1, keepdims=True) @ v
    return attended.swapaxes(0, 1).reshape(count, heads * width)
