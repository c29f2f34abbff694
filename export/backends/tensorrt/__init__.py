"""Bundles for TensorRT and TensorRT-RTX."""
