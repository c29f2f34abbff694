"""Bundles for ExecuTorch."""
