"""How charts and page look in light and in dark: the Vega configuration and the page's CSS variables."""

from __future__ import annotations

from typing import Any, get_args

from pam_edge.benchmarks.report.palette import COLOURS, SERIES, Light

_SHAPES = ["circle", "square", "triangle-up", "cross", "diamond", "triangle-right", "triangle-down"]
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, sans-serif"


def vega_config(light: Light) -> dict[str, Any]:
    """Vega-Lite's `config` for charts on a card of that palette."""
    c = COLOURS[light]
    axis = {
        "labelColor": c["soft"], "titleColor": c["soft"], "gridColor": c["line"], "tickColor": c["line"],
        "domainColor": c["line"], "titleFontWeight": "normal", "labelFontSize": 11, "titleFontSize": 12,
        "labelLimit": 220,
    }  # fmt: skip
    legend = {"labelColor": c["ink"], "titleColor": c["soft"], "labelLimit": 0, "symbolLimit": 0}
    return {
        "background": c["card"],
        "font": FONT,
        "view": {"stroke": None},
        "axis": axis,
        "legend": {**legend, "labelFontSize": 12, "symbolSize": 90, "rowPadding": 4},
        "title": {
            "color": c["ink"], "subtitleColor": c["soft"], "anchor": "start", "fontSize": 16,
            "subtitleFontSize": 12, "subtitlePadding": 6, "offset": 14,
        },
        "text": {"color": c["soft"], "fontSize": 12},
        "rule": {"color": c["soft"]},
        # One shape fewer than colours: a ninth series differs from the first in its shape.
        "range": {"category": [c[f"s{n}"] for n in range(SERIES)], "symbol": _SHAPES},
    }  # fmt: skip


def variables() -> str:
    """CSS custom properties of the palette: light, and dark where the reader's system is."""
    light, dark = ("".join(f"--{k}:{v};" for k, v in COLOURS[n].items()) for n in get_args(Light))
    return f":root{{color-scheme:light dark;{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
