"""`Session` and `Decoder` over CoreML models, as coremltools represents them.

A row of the decoder is a state of its own (`MLState`, the cache of one sequence), because the graph has one
row. A rewind sets an earlier start: the graph masks everything after a query's own position, so old entries
are overwritten before they are read. A branch copies a state through `read_state` and `write_state`
(coremltools 9): the whole cache, a fraction of a second at PAM's sizes, where computing a region's 1,042
positions again would take many. Rows are stepped one after the other, because a batch would need one package
per number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pam_edge.bundle.config import LanguageConfig
from pam_edge.bundle.manifest import Graph
from pam_edge.core.errors import IntegrityError, PamEdgeError, WontFitError
from pam_edge.runtimes.common.checks import (
    check_branch,
    check_embeds,
    check_feeds,
    check_keep,
    check_length,
    check_room,
    check_tokens,
)
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.session import Array, Floats

STATES = ("keys", "values")


class State(Protocol):
    """coremltools' MLState."""

    def read_state(self, name: str) -> Array: ...

    def write_state(self, name: str, value: Array) -> None: ...


class Model(Protocol):
    """coremltools' MLModel, opened at one function."""

    def predict(self, data: dict[str, Array], state: Any = None) -> dict[str, Array]: ...

    def make_state(self) -> Any: ...


class PackageSession:
    """`Session` of one graph over its model."""

    def __init__(self, graph: Graph, model: Model) -> None:
        self._graph, self._model = graph, model

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Named inputs to named outputs. Raises UsageError for feeds that are not the graph's inputs."""
        check_feeds(self._graph, feeds)
        found = predicted(self._model, dict(feeds), None, self._graph.name)
        return {
            spec.name: np.asarray(_named(found, spec.name, self._graph.name), dtype=spec.dtype)
            for spec in self._graph.outputs
        }


@dataclass
class _Row:
    """One sequence: the engine's cache of it, and how many positions of that count."""

    state: State
    length: int = 0


class StatefulDecoder:
    """`Decoder` over the two functions of a package, with one empty row.

    `chunk` is how many positions `prefill` takes a call. Branches share the models and their weights.
    """

    def __init__(
        self, prefill: Model, step: Model, *, language: LanguageConfig, table: TokenTable, chunk: int
    ) -> None:
        self._prefill, self._step, self._language, self._chunk = prefill, step, language, chunk
        self.embed = table
        self._rows = [_Row(self._new_state())]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Positions held in the cache, per row."""
        return tuple(row.length for row in self._rows)

    def prefill(self, embeds: Sequence[Floats]) -> Floats:
        """Append embeddings; see `Decoder.prefill`. No row grows where one fails."""
        check_embeds(embeds, self.lengths, self._language)
        logits = [self._append(row, array) for row, array in zip(self._rows, embeds, strict=True)]
        for row, array in zip(self._rows, embeds, strict=True):
            row.length += len(array)
        return np.concatenate(logits)

    def step(self, tokens: Sequence[int]) -> Floats:
        """Append one token per row; see `Decoder.step`."""
        check_tokens(tokens, len(self._rows))
        embeds = self.embed(tokens)
        check_room([n + 1 for n in self.lengths], self._language)
        return self.prefill([embeds[i : i + 1] for i in range(len(tokens))])

    def branch(self, rows: int) -> StatefulDecoder:
        """A new decoder of `rows` rows, each with a copy of this one's cache."""
        check_branch(rows, len(self._rows))
        other = object.__new__(StatefulDecoder)
        other._prefill, other._step, other._chunk = self._prefill, self._step, self._chunk
        other._language, other.embed = self._language, self.embed
        (row,) = self._rows
        held = {name: row.state.read_state(name) for name in STATES} if row.length else {}
        other._rows = []
        for _ in range(rows):
            state = self._new_state()
            for name, value in held.items():
                state.write_state(name, value)
            other._rows.append(_Row(state, row.length))
        return other

    def keep(self, rows: Sequence[int]) -> None:
        """Drop every row not listed, and its cache."""
        check_keep(rows, len(self._rows))
        self._rows = [self._rows[i] for i in rows]

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on."""
        check_length(length)
        for row in self._rows:
            row.length = min(row.length, length)

    def _append(self, row: _Row, embeds: Floats) -> Floats:
        """Logits [1, V] after these positions; the row's length is the caller's to change."""
        if len(embeds) == 1:
            return self._run(self._step, row, {"embeds": embeds[None]}, row.length)
        logits = np.empty((1, 0), np.float32)
        for start in range(0, len(embeds), self._chunk):
            part = embeds[start : start + self._chunk]
            padded = np.zeros((1, self._chunk, embeds.shape[1]), np.float32)
            padded[0, : len(part)] = part
            last = np.array([len(part) - 1], np.int32)
            logits = self._run(self._prefill, row, {"embeds": padded, "last": last}, row.length + start)
        return logits

    def _run(self, model: Model, row: _Row, feeds: dict[str, Array], start: int) -> Floats:
        feeds = {**feeds, "start": np.array([start], np.int32)}
        found = _named(predicted(model, feeds, row.state, "decoder"), "logits", "decoder")
        if found.shape != (1, self._language.vocab_size):
            raise IntegrityError(f"the decoder gave logits {list(found.shape)}; export the bundle again")
        return np.asarray(found, dtype=np.float32)

    def _new_state(self) -> State:
        try:
            state: State = self._prefill.make_state()
        except Exception as e:  # whatever the system's framework says
            raise WontFitError(
                f"CoreML makes no cache for the decoder ({_words(e)}): it takes macOS 15 or later, "
                "and memory: close other programs or ask for fewer tasks at once"
            ) from e
        return state


def predicted(model: Model, feeds: dict[str, Array], state: Any, graph: str) -> dict[str, Array]:
    """What a model gives. Raises IntegrityError with the engine's words where it fails."""
    try:
        return model.predict(feeds) if state is None else model.predict(feeds, state)
    except PamEdgeError:
        raise
    except Exception as e:  # coremltools raises RuntimeError and Exception alike
        raise IntegrityError(f"graph {graph} failed: {_words(e)}; copy or export the bundle again") from e


def _named(found: Mapping[str, Array], name: str, graph: str) -> Array:
    if name not in found:
        raise IntegrityError(f"graph {graph} gave no {name}; export the bundle again")
    return np.asarray(found[name])


def _words(e: Exception) -> str:
    return " ".join(str(e).split())[:300]
