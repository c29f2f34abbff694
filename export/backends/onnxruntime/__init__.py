"""Bundles for ONNX Runtime."""
