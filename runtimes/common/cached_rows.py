"""Base of decoders whose cache is one object that selects rows. Knows no engine."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from pam_edge.runtimes.common.checks import check_branch, check_keep, check_length

CacheT = TypeVar("CacheT", bound="Cache")
DecoderT = TypeVar("DecoderT", bound="CachedRows[Any]")


class Cache(Protocol):
    """Keys and values of some rows. What lies beyond a row's length counts for nothing."""

    lengths: list[int]

    def select(self: CacheT, rows: Sequence[int]) -> CacheT:
        """A copy of some rows, in that order, as often as they are named."""
        ...


class CachedRows(Generic[CacheT]):
    """The part of `Decoder` that is about rows."""

    _cache: CacheT

    @property
    def lengths(self) -> tuple[int, ...]:
        """Positions held in the cache, per row."""
        return tuple(self._cache.lengths)

    def branch(self: DecoderT, rows: int) -> DecoderT:
        """A new decoder of `rows` copies of this one's single row; only the positions held are copied."""
        check_branch(rows, len(self.lengths))
        other = copy.copy(self)
        other._cache = self._cache.select([0] * rows)
        return other

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row not listed."""
        check_keep(rows, len(self.lengths))
        if list(rows) != list(range(len(self.lengths))):
            self._cache = self._cache.select(rows)

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on: no engine reads further than the lengths it gets."""
        check_length(length)
        self._cache.lengths = [min(n, length) for n in self._cache.lengths]
