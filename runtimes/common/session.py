"""The interfaces of an engine: `Session` for stateless graphs, `Decoder` for the language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class Session(Protocol):
    """A stateless graph, ready to run."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Named inputs to named outputs, shapes and dtypes as in the bundle's TensorSpecs."""
        ...


class Decoder(Protocol):
    """The language model with a cache it owns: `rows` sequences that grow side by side.

    Every method that returns logits returns [rows, vocabulary] float32 for each row's last position.
    """

    @property
    def lengths(self) -> tuple[int, ...]:
        """Positions held in the cache, per row."""
        ...

    def prefill(self, embeds: Sequence[Floats]) -> Floats:
        """Append embeddings, one [T_i, hidden] array per row (T_i >= 1, may differ between rows).

        Raises WontFitError where a row would pass the bundle's `max_length`.
        """
        ...

    def step(self, tokens: Sequence[int]) -> Floats:
        """Append one token per row. Raises like `prefill`."""
        ...

    def branch(self, rows: int) -> Decoder:
        """A new decoder of `rows` rows, each a copy of this one's single row; this one is left as it is."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row not listed; the rest are renumbered in the order given."""
        ...

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on, in every row: as if they had never been appended."""
        ...

    def embed(self, tokens: Sequence[int]) -> Floats:
        """Rows of the token embedding, [len(tokens), hidden] float32."""
        ...
