"""Times and amounts as short text for people."""

from __future__ import annotations


def short(value: float) -> str:
    """An amount in three digits: 0.05, 12, 1.5k."""
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{unit}"
    return f"{value:.3g}"


def time_unit(most_ns: float) -> tuple[str, float]:
    """The unit in which times up to `most_ns` read well, and its nanoseconds."""
    for name, factor in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if most_ns >= factor:
            return name, factor
    return "ns", 1.0


def time_text(ns: float) -> str:
    """A time in three digits with its unit: 123 ms, 1.5 s."""
    name, factor = time_unit(ns)
    value = ns / factor
    return f"{value:.0f} {name}" if value >= 100 else f"{value:.3g} {name}"
