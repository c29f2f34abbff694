"""Bundles: a folder with a strict, versioned bundle.json, and the configuration of each model size."""
