"""Tokenization and the token loop."""
