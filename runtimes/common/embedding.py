"""The token embedding, gathered row by row from a memory map of the bundle's file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import IntegrityError, UsageError

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]


class TokenTable:
    """Token ids to embeddings, from rows in memory or mapped.

    `rows` is [vocabulary, hidden], float32 or float16; with `scales` [vocabulary, blocks] it is the codes
    [vocabulary, blocks, bytes] of `bits` each.
    """

    def __init__(self, rows: Array, scales: Array | None = None, *, bits: int = 8, hidden: int = 0) -> None:
        self._rows, self._scales, self._bits, self._hidden = rows, scales, bits, hidden

    @classmethod
    def open(cls, bundle: Bundle) -> TokenTable:
        """Map the bundle's embedding. Raises IntegrityError where the file and the manifest disagree."""
        embedding, language = bundle.manifest.embedding, bundle.manifest.variant.language
        shape, hidden = embedding.shape, language.hidden_size
        if shape != (language.vocab_size, language.hidden_size):
            raise IntegrityError(
                f"the bundle's embedding is {list(embedding.shape)} where its variant wants "
                f"{[language.vocab_size, language.hidden_size]}; export again"
            )
        path = bundle.path(embedding.file)
        try:
            if embedding.dtype in ("float32", "float16"):
                return cls(np.memmap(path, dtype=embedding.dtype, mode="r", shape=shape))
            codes, start, _ = embedding.layout()
            rows = np.memmap(path, dtype=np.uint8, mode="r", shape=codes)
            scales = np.memmap(path, dtype=np.float32, mode="r", offset=start, shape=codes[:2])
            return cls(rows, scales, bits=8 if embedding.dtype == "q8" else 4, hidden=hidden)
        except (OSError, ValueError) as e:
            raise IntegrityError(f"cannot read {path}: {e}; copy or export the bundle again") from e

    def __call__(self, tokens: Sequence[int]) -> Floats:
        """[len(tokens), hidden] float32. Raises UsageError for an id outside the vocabulary."""
        vocabulary = len(self._rows)
        ids = np.asarray(tokens, dtype=np.int64).reshape(-1)
        if ids.size and (ids.min() < 0 or ids.max() >= vocabulary):
            raise UsageError(f"token ids must lie in 0..{vocabulary - 1}, got {ids.min()}..{ids.max()}")
        if self._scales is None:
            return np.asarray(self._rows[ids], dtype=np.float32)
        return unpacked(self._rows[ids], self._scales[ids], bits=self._bits, width=self._hidden)


def unpacked(codes: Array, scales: Floats, *, bits: int, width: int) -> Floats:
    """Rows [n, width] from codes [n, blocks, bytes] and scales [n, blocks].

    Codes have zero in the middle of their range; of two in a byte, the earlier is in the low half.
    """
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:-1], -1)
    values = (codes.astype(np.float32) - np.float32(1 << (bits - 1))) * scales[..., None]
    return np.ascontiguousarray(values.reshape(len(values), -1)[:, :width])
