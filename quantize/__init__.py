"""Quantization: schemes as ordered rules, and one file per method."""
