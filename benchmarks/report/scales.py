"""From values to pixels, and the ticks between. Knows no chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on pixels from `start` to `stop`, evenly or by ratio."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.stop - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within, about so many."""
        return _log_ticks(self.low, self.high) if self.log else _even_ticks(self.low, self.high, count)


def from_zero(values: Sequence[float], start: float, stop: float) -> Scale:
    """From 0 to a round value above all."""
    most = max(values, default=0.0) or 1.0
    return Scale(0.0, most * 1.08, start, stop)


def around(values: Sequence[float], start: float, stop: float, *, least: float = 0.0) -> Scale:
    """Around all values, with room; at least `least` from one end to the other."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.2, (least - (high - low)) / 2, abs(high) * 1e-3, 1e-9)
    return Scale(low - room, high + room, start, stop)


def by_ratio(values: Sequence[float], start: float, stop: float) -> Scale:
    """By ratio, with room at both ends."""
    low, high = min(values), max(values)
    return Scale(low / 1.6, high * 1.6, start, stop, log=True)


def short(value: float) -> str:
    """A tick's value, without noise: 0.05, 12, 1.5k."""
    if value == 0:
        return "0"
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


def told_time(ns: float) -> str:
    """A time for people, three digits."""
    name, factor = time_unit(ns)
    value = ns / factor
    return f"{value:.0f} {name}" if value >= 100 else f"{value:.3g} {name}"


def _even_ticks(low: float, high: float, count: int) -> list[float]:
    rough = (high - low) / max(1, count)
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    found: list[float] = []
    decades = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1
    steps = (1, 2, 5) if decades <= 2 else (1,)
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        found += [m * 10.0**power for m in steps if low <= m * 10.0**power <= high]
    return found
