"""PAM in PyTorch, written so that it exports: real-valued RoPE, static shapes, no in-place indexing.

State-dict keys are the original's own (SAM 2.1, Semantic Perceiver, Qwen2), so loading is a prefix rename.
Nothing here knows files, bundles or engines.
"""
