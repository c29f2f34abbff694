"""A decoder's cache in numpy, for engines that read it from the host's memory. Knows no engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pam_edge.bundle.config import LanguageConfig
from pam_edge.core.errors import WontFitError

_FIRST_CAPACITY = 256  # positions; doubled when full


class HostCache:
    """Keys and values of some rows: `arrays` holds both for each layer, [rows, kv heads, capacity, head dim];
    keys are [rows, kv heads, head dim, capacity] where `turned`.

    What no position has been written to is 0: an engine may multiply it by 0, which must give 0. Raises
    WontFitError where there is no memory.
    """

    def __init__(
        self, language: LanguageConfig, rows: int, capacity: int = 0, *, turned: bool = False
    ) -> None:
        self.language, self.capacity, self.turned = language, capacity, turned
        self.lengths = [0] * rows
        value = (rows, language.kv_heads, capacity, language.head_dim)
        key = (rows, language.kv_heads, language.head_dim, capacity) if turned else value
        try:
            self.arrays = [
                np.zeros(shape, np.float32) for _ in range(language.layers) for shape in (key, value)
            ]
        except MemoryError as e:
            size = 2 * language.layers * 4 * int(np.prod(value)) / 1e9
            raise WontFitError(
                f"no memory for a cache of {rows} x {capacity} positions ({size:.1f} GB); "
                "ask for fewer tasks at once, or fewer new tokens"
            ) from e

    def select(self, rows: Sequence[int], capacity: int | None = None) -> HostCache:
        """A copy of some rows, in that order, as often as they are named; of positions held alone."""
        capacity = self.capacity if capacity is None else capacity
        other = HostCache(self.language, len(rows), capacity, turned=self.turned)
        other.lengths = [self.lengths[row] for row in rows]
        held = max(other.lengths)
        for i, (new, old) in enumerate(zip(other.arrays, self.arrays, strict=True)):
            part = (..., slice(held)) if self.turned and i % 2 == 0 else (..., slice(held), slice(None))
            for place, row in enumerate(rows):
                new[place][part] = old[row][part]
        return other

    def with_room(self, positions: int) -> HostCache:
        """This cache where so many positions fit in it, else a larger copy, up to the variant's most."""
        if positions <= self.capacity:
            return self
        capacity = max(_FIRST_CAPACITY, 2 * self.capacity, positions)
        capacity = min(-(-capacity // _FIRST_CAPACITY) * _FIRST_CAPACITY, self.language.max_length)
        return self.select(range(len(self.lengths)), capacity)
