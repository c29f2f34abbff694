"""The token embedding, read from the bundle's own file: gathered from a memory map, never all loaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pam_edge.bundle import Bundle
from pam_edge.errors import IntegrityError, UsageError

Floats = npt.NDArray[np.float32]


class TokenTable:
    """Token ids to embeddings. `rows` is [vocabulary, hidden], float32 or float16, in memory or mapped."""

    def __init__(self, rows: npt.NDArray[np.float32] | npt.NDArray[np.float16]) -> None:
        self._rows = rows

    @classmethod
    def open(cls, bundle: Bundle) -> TokenTable:
        """Map the bundle's embedding. Raises IntegrityError where the file and the manifest disagree."""
        embedding, language = bundle.manifest.embedding, bundle.manifest.variant.language
        if embedding.shape != (language.vocab_size, language.hidden_size):
            raise IntegrityError(
                f"the bundle's embedding is {list(embedding.shape)} where its variant wants "
                f"{[language.vocab_size, language.hidden_size]}; export again"
            )
        path = bundle.path(embedding.file)
        try:
            rows = np.memmap(path, dtype=embedding.dtype, mode="r", shape=embedding.shape)
        except (OSError, ValueError) as e:
            raise IntegrityError(f"cannot read {path}: {e}; copy or export the bundle again") from e
        return cls(rows)

    def __call__(self, tokens: Sequence[int]) -> Floats:
        """[len(tokens), hidden] float32. Raises UsageError for an id outside the vocabulary."""
        vocabulary = len(self._rows)
        ids = np.asarray(tokens, dtype=np.int64).reshape(-1)
        if ids.size and (ids.min() < 0 or ids.max() >= vocabulary):
            raise UsageError(f"token ids must lie in 0..{vocabulary - 1}, got {ids.min()}..{ids.max()}")
        return np.asarray(self._rows[ids], dtype=np.float32)
