"""Schemes: how the numbers of a bundle are stored, as ordered rules; the first that matches a tensor wins.

A scheme is read while graphs are written. It knows neither torch nor a device; which schemes a device takes,
and how close their numbers must come, the target says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pam_edge.errors import UsageError

Storage = Literal["float32", "float16"]


@dataclass(frozen=True)
class Rule:
    """Tensors of at least `dimensions` axes and `elements` values are stored as `storage`."""

    storage: Storage
    dimensions: int = 0
    elements: int = 0

    def matches(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of that shape falls under this rule."""
        return len(shape) >= self.dimensions and math.prod(shape) >= self.elements


@dataclass(frozen=True)
class Scheme:
    """Ordered rules; a tensor that none matches stays float32."""

    name: str
    note: str
    rules: tuple[Rule, ...]

    def storage(self, shape: Sequence[int]) -> Storage:
        """How a weight of that shape is stored."""
        return next((rule.storage for rule in self.rules if rule.matches(shape)), "float32")


FP32 = Scheme("fp32", "every weight as it was trained", ())
SCHEMES: tuple[Scheme, ...] = (
    FP32,
    # Vectors (norms, biases) are a thousandth of the bytes and the most sensitive: they stay.
    Scheme(
        "fp16", "matrices stored in 16 bits, computed in 32", (Rule("float16", dimensions=2, elements=1024),)
    ),
)


def scheme_named(name: str) -> Scheme:
    """The scheme of that name. Raises UsageError listing the known ones."""
    for scheme in SCHEMES:
        if scheme.name == name:
            return scheme
    known = ", ".join(scheme.name for scheme in SCHEMES)
    raise UsageError(f"unknown scheme {name!r}; known: {known}")
