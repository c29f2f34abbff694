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


def contrast(a: str, b: str) -> float:
    """Of two colours, as WCAG 2.2 defines it: 1 to 21."""
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
