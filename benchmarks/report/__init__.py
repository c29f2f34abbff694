"""Measurements as pages: `pam-edge report` (rows of any benchmark) and the page of `pam-edge eval --out`.

Charts are Vega-Lite specifications, drawn in the page by Vega and into PNG files by vl-convert; pages are
jinja2 templates. Without the packages of the extra `report`, importing this raises EnvironmentProblem.
"""

from __future__ import annotations

from importlib.util import find_spec

from pam_edge.core.errors import EnvironmentProblem

for _package, _name in (("altair", "altair"), ("vl_convert", "vl-convert-python"), ("jinja2", "jinja2")):
    if find_spec(_package) is None:
        raise EnvironmentProblem(f"pages and charts need {_name}: pip install 'pam-edge[report]'")
