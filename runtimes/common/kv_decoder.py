"""A simple, slow decoder for any engine that can run the decoder graph as a plain session.

Every call passes the cache in and takes it back, one row at a time. New engines start with it, and a contract
test holds the fast decoders to the same tokens. Knows the decoder graph's signature (`past_*`, `seqlens_k`,
`total_sequence_length`), no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pam_edge.bundle.config import LanguageConfig
from pam_edge.runtimes.common.checks import check_branch, check_embeds, check_keep, check_length
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.session import Array, Floats, Session


@dataclass(frozen=True)
class _Row:
    """One sequence: `past_*` feeds of [1, kv heads, length, head dim]. Never written to, so shared."""

    length: int
    past: dict[str, Array]


class KvDecoder:
    """`Decoder` over a `Session` of the decoder graph. Each call copies the whole cache."""

    def __init__(self, session: Session, language: LanguageConfig, table: TokenTable) -> None:
        self._session, self._language, self.embed = session, language, table
        empty = np.zeros((1, language.kv_heads, 0, language.head_dim), dtype=np.float32)
        names = [f"past_{kind}.{i}" for i in range(language.layers) for kind in ("key", "value")]
        self._rows = [_Row(0, dict.fromkeys(names, empty))]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Positions held in the cache, per row."""
        return tuple(row.length for row in self._rows)

    def prefill(self, embeds: Sequence[Floats]) -> Floats:
        """Append embeddings; see `Decoder.prefill`."""
        check_embeds(embeds, self.lengths, self._language)
        grown = [self._append(row, array) for row, array in zip(self._rows, embeds, strict=True)]
        self._rows = [row for row, _ in grown]
        return np.concatenate([logits for _, logits in grown])

    def step(self, tokens: Sequence[int]) -> Floats:
        """Append one token per row; see `Decoder.step`."""
        return self.prefill([self.embed([token]) for token in tokens])

    def branch(self, rows: int) -> KvDecoder:
        """A new decoder of `rows` copies of this one's single row."""
        check_branch(rows, len(self._rows))
        other = KvDecoder(self._session, self._language, self.embed)
        other._rows = self._rows * rows
        return other

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row not listed."""
        check_keep(rows, len(self._rows))
        self._rows = [self._rows[i] for i in rows]

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on."""
        check_length(length)
        self._rows = [
            _Row(min(row.length, length), {name: array[:, :, :length] for name, array in row.past.items()})
            for row in self._rows
        ]

    def _append(self, row: _Row, embeds: Floats) -> tuple[_Row, Floats]:
        total = row.length + len(embeds)
        outputs = self._session.run(
            {
                "embeds": embeds[None],
                "seqlens_k": np.array([total - 1], dtype=np.int32),
                "total_sequence_length": np.array(total, dtype=np.int32),
                **row.past,
            }
        )
        past = {name: outputs[name.replace("past", "present")][:, :, :total] for name in row.past}
        return _Row(total, past), outputs["logits"]
