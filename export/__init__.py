"""Export from PyTorch weights to bundles: all code that needs the extra `export`."""
