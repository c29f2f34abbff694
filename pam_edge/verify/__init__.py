"""Verification of a bundle against its golden numbers."""
