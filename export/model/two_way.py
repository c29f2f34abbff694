"""The two-way transformer: a few queries and an image map attend to each other (SAM, arXiv 2304.02643).

SAM's mask decoder and the Semantic Perceiver both use it, with different queries.
"""

from __future__ import annotations

from torch import Tensor, nn

from pam_edge.export.model.layers import MLP, Attention


class TwoWayLayer(nn.Module):
    """One layer: queries to themselves, queries to image, MLP, image to queries."""

    def __init__(self, width: int, *, heads: int, mlp: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, inner=width // 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP((width, mlp, width))
        self.norm3 = nn.LayerNorm(width)
        self.norm4 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, inner=width // 2)

    def forward(
        self, queries: Tensor, keys: Tensor, *, query_pe: Tensor, key_pe: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Queries [B, T, width], keys [B, L, width]; `mask` [B, 1, 1, T] is on the queries as keys."""
        queries = self.norm1(self.attend_self(queries, query_pe, mask))
        q, k = queries + query_pe, keys + key_pe
        queries = self.norm2(queries + self.cross_attn_token_to_image(q, k, keys))
        queries = self.norm3(queries + self.mlp(queries))
        q = queries + query_pe
        keys = self.norm4(keys + self.cross_attn_image_to_token(k, q, queries, mask))
        return queries, keys

    def attend_self(self, queries: Tensor, query_pe: Tensor, mask: Tensor | None) -> Tensor:
        """Self-attention of the queries; in the first layer its output replaces them."""
        if self.first:
            attended: Tensor = self.self_attn(queries, queries, queries, mask)
            return attended
        q = queries + query_pe
        out: Tensor = queries + self.self_attn(q, q, queries, mask)
        return out


class TwoWayTransformer(nn.Module):
    """Layers, then one last attention from queries to image."""

    def __init__(self, width: int, *, depth: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayLayer(width, heads=heads, mlp=mlp, first=i == 0) for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(width, heads, inner=width // 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def attend(
        self, image: Tensor, image_pe: Tensor, tokens: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Image [B, C, H, W] with position encoding [1, C, H, W] and tokens [B, T, C] -> tokens, image.

        The tokens' initial value is also their position encoding. Additive `mask`: [B, 1, 1, T].
        """
        keys, key_pe = image.flatten(2).transpose(1, 2), image_pe.flatten(2).transpose(1, 2)
        queries = tokens
        for layer in self.layers:
            queries, keys = layer(queries, keys, query_pe=tokens, key_pe=key_pe, mask=mask)
        attended = self.final_attn_token_to_image(queries + tokens, keys + key_pe, keys)
        queries = self.norm_final_attn(queries + attended)
        return queries, keys.transpose(1, 2).reshape(image.shape)
