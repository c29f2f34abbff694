"""A bundle against its golden numbers."""
