"""Rows of measurements as a page people want to look at: `pam-edge report`.

Charts are shapes first; they become SVG inside the page and PNG files beside it.
"""
