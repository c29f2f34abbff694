"""Measurements as pages: `pam-edge report` (rows of any benchmark) and the page of `pam-edge eval --out`.

Charts are Vega-Lite specifications, drawn in the page by Vega and into PNG files by vl-convert; pages are
jinja2 templates.
"""
