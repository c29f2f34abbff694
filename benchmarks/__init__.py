"""Measuring what the product does: the demo, the rendered world nano knows, and quality figures."""
