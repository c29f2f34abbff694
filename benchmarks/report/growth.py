"""How cost grows with work, and what to call it: constant, linear, less than linear, worse than linear.

A name is given where the curve supports it: `constant` and `linear` (a fixed part and so much for each) where
every point lies within the tolerance of the fit, which is the larger of a tenth and twice the samples' own
spread, up to 0.3. Otherwise a curve that bends one way all along is named by it: by the slope at the end
against the slope at the beginning. Knows statistics alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Growth = Literal["constant", "linear", "less than linear", "worse than linear", "unclear"]
TOLERANCE, MOST = 0.10, 0.30  # relative error of a fit that still names; the latter however wide the spread
_BENT = 1.25  # times as steep at one end as at the other: a curve that bends


@dataclass(frozen=True)
class Fit:
    """`cost = fixed + each * work` by least squares of relative errors, and how well that holds."""

    growth: Growth
    fixed: float
    each: float
    worst: float  # largest relative error of the fit that gave the name
    exponent: float  # of the last step: 1 where twice the work costs twice as much

    def at(self, work: float) -> float:
        """What the fit says of so much work."""
        return self.fixed + self.each * work


def fit(work: Sequence[float], cost: Sequence[float], *, spread: float = 0.0) -> Fit | None:
    """The growth through at least three different amounts of work; None for fewer, or where a cost is 0.

    `spread` is the median relative spread of the costs' samples.
    """
    order = sorted(zip(work, cost, strict=True))
    x = np.array([w for w, _ in order], np.float64)
    y = np.array([c for _, c in order], np.float64)
    if len(set(x.tolist())) < 3 or (y <= 0).any() or (x <= 0).any():
        return None
    tolerance = min(MOST, max(TOLERANCE, 2 * spread))
    exponent = math.log(y[-1] / y[-2]) / math.log(x[-1] / x[-2])
    middle = math.sqrt(float(y.min()) * float(y.max()))
    worst = float(np.abs(y / middle - 1).max())
    if worst <= tolerance:
        return Fit("constant", middle, 0.0, worst, exponent)
    columns = np.stack([1 / y, x / y], axis=1)
    (fixed, each), *_ = np.linalg.lstsq(columns, np.ones(len(y)), rcond=None)
    worst = float(np.abs((fixed + each * x) / y - 1).max())
    if worst <= tolerance and each > 0 and fixed >= -tolerance * float(y.min()):
        return Fit("linear", float(fixed), float(each), worst, exponent)
    name: Growth = "unclear"
    slopes = np.diff(y) / np.diff(x)
    bends = np.diff(slopes)
    if (slopes > 0).all() and (bends >= 0).all() and slopes[-1] > _BENT * slopes[0]:
        name = "worse than linear"
    elif (slopes > 0).all() and (bends <= 0).all() and slopes[-1] < slopes[0] / _BENT:
        name = "less than linear"
    return Fit(name, float(fixed), float(each), worst, exponent)
