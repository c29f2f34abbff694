"""Several questions about one region in a single pass: they share the prefix and do not see each other.

The same arithmetic as `Language` run once per question; positions go on from the prefix in every branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pam_edge.bundle.config import LanguageConfig
from pam_edge.export.model.language import Language, rotate
from pam_edge.export.model.layers import merge_heads
from tools.nano.words import Asked

STRESS = 4.0  # what a stressed token weighs more than another of its answer


class Tree(NamedTuple):
    """B regions with their branches, padded to T tokens."""

    ids: Tensor  # [B, T] tokens after the prefix
    positions: Tensor  # [B, P + T]
    allowed: Tensor  # bool [B, 1, P + T, P + T]
    target: Tensor  # [B, T] the token that should follow, -1 where nothing is asked
    weight: Tensor  # [B, T]

    def to(self, device: torch.device) -> Tree:
        """The same there."""
        return Tree(*(field.to(device) for field in self))


def plant(branches: Sequence[Sequence[Asked]], prefix: int) -> Tree:
    """`branches[b]` are the questions about region b; every answer weighs the root of its length,
    stressed tokens more.
    """
    length = max(sum(len(q.ids_after) + len(q.answer) - 1 for q in each) for each in branches)
    b = len(branches)
    ids, target = torch.zeros(b, length, dtype=torch.long), torch.full((b, length), -1)
    weight, owner = torch.zeros(b, length), torch.full((b, length), -1)
    places = torch.zeros(b, length, dtype=torch.long)
    for i, each in enumerate(branches):
        at = 0
        for number, q in enumerate(each):
            tokens = [*q.ids_after, *q.answer[:-1]]
            end, first = at + len(tokens), at + len(q.ids_after) - 1
            ids[i, at:end] = torch.tensor(tokens)
            places[i, at:end] = prefix + torch.arange(len(tokens))
            owner[i, at:end] = number
            target[i, first:end] = torch.tensor(q.answer)
            weight[i, first:end] = len(q.answer) ** -0.5
            if q.stressed:
                weight[i, first:end] *= torch.where(torch.tensor(q.stressed), STRESS, 1.0)
            at = end
    own = owner[:, :, None] == owner[:, None, :]  # padding attends to padding: no empty row
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    low = torch.cat([torch.ones(b, length, prefix, dtype=torch.bool), own & causal], dim=2)
    high = torch.zeros(b, prefix, prefix + length, dtype=torch.bool)
    high[:, :, :prefix] = torch.ones(prefix, prefix, dtype=torch.bool).tril()
    positions = torch.cat([torch.arange(prefix).expand(b, -1), places], dim=1)
    return Tree(ids, positions, torch.cat([high, low], dim=1)[:, None], target, weight)


def hidden(language: Language, embeds: Tensor, tree: Tree) -> Tensor:
    """Normed hidden states [B, P + T, hidden] of embeddings laid out as the tree."""
    cos, sin = turns(language.config, tree.positions)
    mask = torch.zeros(tree.allowed.shape, device=embeds.device).masked_fill(~tree.allowed, -3e4)
    x = embeds
    for layer in language.layers:
        y, attention = layer.input_layernorm(x), layer.self_attn
        b, t, _ = y.shape
        q = rotate(attention.q_proj(y).reshape(b, t, attention.heads, attention.d).transpose(1, 2), cos, sin)
        k = rotate(
            attention.k_proj(y).reshape(b, t, attention.kv_heads, attention.d).transpose(1, 2), cos, sin
        )
        v = attention.v_proj(y).reshape(b, t, attention.kv_heads, attention.d).transpose(1, 2)
        each = attention.heads // attention.kv_heads
        k, v = k.repeat_interleave(each, dim=1), v.repeat_interleave(each, dim=1)
        x = x + attention.o_proj(merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    out: Tensor = language.norm(x)
    return out


def turns(config: LanguageConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines at positions [B, T]: each [B, 1, T, head_dim]."""
    index = torch.arange(0, config.head_dim, 2, device=positions.device).float()
    angle = positions[:, None, :, None].float() / config.rope_theta ** (index / config.head_dim)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()
