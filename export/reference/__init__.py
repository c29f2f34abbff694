"""PyTorch's outputs: the numbers that bundles are verified against."""
