"""Weights: PAM folders, SAM 2 files, names on the Hugging Face hub, random weights."""
