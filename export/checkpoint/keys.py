"""Canonical keys of the two tensors that need special treatment."""

EMBED_TOKENS, LM_HEAD = "language.embed_tokens.weight", "language.lm_head.weight"
