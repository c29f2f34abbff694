"""Text to tokens and back, and the token loop."""
