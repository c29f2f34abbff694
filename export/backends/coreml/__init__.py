"""Bundles for CoreML."""
