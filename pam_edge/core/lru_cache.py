"""A least-recently-used cache of bounded size, which counts hits and misses."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from pam_edge.core.errors import UsageError

Value = TypeVar("Value")


class Lru(Generic[Value]):
    """Up to `capacity` values by key; `hits` and `misses` count every `get`."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise UsageError(f"a cache of {capacity} entries holds nothing; give at least 1")
        self._capacity = capacity
        self._values: OrderedDict[str, Value] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        """The value of that key, made now where it is not held. Room is made before, so never one too many
        is held.
        """
        if key in self._values:
            self.hits += 1
            self._values.move_to_end(key)
            return self._values[key]
        self.misses += 1
        while len(self._values) >= self._capacity:
            self._values.popitem(last=False)
        value = make()
        self._values[key] = value
        return value
