"""Colours by role, in light and in dark. Data only.

The series' colours keep a contrast of at least 3 to 1 with the card they lie on, in either light.
"""

from __future__ import annotations

from typing import Literal

Light = Literal["light", "dark"]
SERIES = 8  # colours of series: s0 to s7

COLOURS: dict[Light, dict[str, str]] = {
    "light": {
        "bg": "#f6f7f9",
        "card": "#ffffff",
        "ink": "#14171c",
        "soft": "#5b6472",
        "line": "#e1e5ea",
        "accent": "#0a6cff",
        "warn": "#c6303c",
        "s0": "#2f6fde",
        "s1": "#d9640b",
        "s2": "#12875a",
        "s3": "#9a3fc4",
        "s4": "#c2255c",
        "s5": "#0d8494",
        "s6": "#8a6d00",
        "s7": "#5b6472",
    },
    "dark": {
        "bg": "#0f1216",
        "card": "#191e25",
        "ink": "#eceff3",
        "soft": "#9aa5b3",
        "line": "#2b323c",
        "accent": "#63a4ff",
        "warn": "#ff7a80",
        "s0": "#6ea2ff",
        "s1": "#ff9d52",
        "s2": "#46c78e",
        "s3": "#c98bee",
        "s4": "#ff7fa8",
        "s5": "#45c3d2",
        "s6": "#d9b640",
        "s7": "#9aa5b3",
    },
}
