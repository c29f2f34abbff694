"""Smaller numbers for the same graphs: schemes as ordered rules, one file a format."""
