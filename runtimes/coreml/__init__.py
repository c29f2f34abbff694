"""CoreML."""
