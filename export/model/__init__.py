"""PAM in PyTorch, written so that it exports: real-valued RoPE, static shapes, no in-place indexing.

State-dict keys are the original's (SAM 2.1, Semantic Perceiver, Qwen2), so loading renames prefixes only.
Nothing here knows files, bundles or engines.
"""
