"""Canonical keys of the two tensors that are treated unlike all others, for those who must name them."""

EMBED_TOKENS, LM_HEAD = "language.embed_tokens.weight", "language.lm_head.weight"
