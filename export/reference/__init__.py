"""What PyTorch gives: the numbers that bundles are verified against."""
