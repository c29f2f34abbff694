"""Smaller numbers for the same graphs. Empty for now: every bundle is written at scheme fp32."""
