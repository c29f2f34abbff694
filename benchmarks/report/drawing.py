"""Vega-Lite specifications as PNG files, and the library that draws them in a page."""

from __future__ import annotations

import vl_convert

from pam_edge.benchmarks.report.figure import Figure
from pam_edge.benchmarks.report.palette import Light
from pam_edge.benchmarks.report.theme import vega_config


def png(figure: Figure, light: Light) -> bytes:
    """The chart with its title, drawn at twice its size."""
    drawn: bytes = vl_convert.vegalite_to_png(figure.spec(titled=True), scale=2, config=vega_config(light))
    return drawn


def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as JavaScript for a module script; defines `window.vegaEmbed`."""
    code: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return code.replace("</script", "<\\/script")
