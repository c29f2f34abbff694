"""From a prefilled visual prefix to streamed answers: each task is a branch, all decode as one batch.

Knows decoders, tokens and text, neither pictures nor graphs; video uses it as well.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from pam_edge.bundle.config import LanguageConfig
from pam_edge.bundle.manifest import Manifest
from pam_edge.core.errors import UsageError, WontFitError
from pam_edge.pipeline.results import Answer, Piece
from pam_edge.runtimes.common.session import Decoder
from pam_edge.text.decoding import Sampling, Token, generate
from pam_edge.text.tokenization import Lang, Task, Texts, task_name

BATCH = 8  # rows decoded side by side; further tasks wait for the next batch


@dataclass(frozen=True)
class Prefix:
    """A decoder whose single row holds everything up to the visual tokens' end, and what that cost just
    now.
    """

    decoder: Decoder
    computed: int  # positions prefilled for this call; 0 where it came from the cache
    timing_ms: dict[str, float]  # load (opening graphs), perceiver, prefill


@dataclass(frozen=True)
class Limits:
    """What the bundle allows and costs."""

    stop_ids: frozenset[int]
    max_length: int  # positions the decoder's cache may hold
    step_bytes: int  # bytes of weights one decode step reads


def step_bytes(language: LanguageConfig) -> int:
    """Bytes of weights that one decode step reads in ONNX Runtime: those of the layers, the last norm and the
    head, 4 bytes each.

    That holds for fp32 and fp16 alike: the latter is storage only, the engine widens it once, at load. The
    embedding table is not in it (a step reads one row), but for the head where that is the same table.
    """
    n, queries, keys = language, language.heads * language.head_dim, language.kv_heads * language.head_dim
    attention = n.hidden_size * (2 * queries + 2 * keys) + queries + 2 * keys  # q, k, v with bias; o
    layer = attention + 3 * n.hidden_size * n.mlp + 2 * n.hidden_size  # gate, up, down; two norms
    return 4 * (n.layers * layer + n.hidden_size + n.vocab_size * n.hidden_size)


def bundle_step_bytes(manifest: Manifest) -> int:
    """Bytes of weights that one decode step of a bundle reads: as stored, where they are stored in blocks."""
    language, embedding = manifest.variant.language, manifest.embedding
    if embedding.block is None:
        return step_bytes(language)
    (decoder,) = (graph for graph in manifest.graphs if graph.name == "decoder")
    weights = {ref.path: ref.bytes for ref in decoder.files[1:]}
    if not language.tied:
        weights.pop(embedding.file.path, None)
    turns = 4 * language.max_length * language.head_dim  # cosines and sines: a step reads one row of each
    return sum(weights.values()) - turns


@dataclass
class _Row:
    index: int
    task: Task
    ids: tuple[int, ...]


class Description(Iterator[Piece]):
    """A stream of pieces of text. Nothing is computed before the first is asked for; `close` stops early.

    `answers` holds what is finished so far, in the order of the tasks; `timing_ms` and `speed` are complete
    at the end: load (opening graphs; in no other time), perceiver, prefill, first_token, decode;
    prefill_tokens_per_s, decode_tokens_per_s, decode_gb_per_s.
    """

    def __init__(
        self,
        open_prefix: Callable[[], Prefix],
        texts: Texts,
        *,
        tasks: Sequence[Task],
        limits: Limits,
        lang: Lang,
        sampling: Sampling,
        max_tokens: int,
        history: str | None = None,
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        """`lock` is held while a piece is computed.

        Raises UsageError where a task or language is unknown, there is no task, or `max_tokens` is < 1.
        """
        if isinstance(tasks, str) or not tasks:
            raise UsageError(f"tasks is a list with at least one task or question; got {tasks!r}")
        if max_tokens < 1:
            raise UsageError(f"max tokens {max_tokens}: at least 1 is needed for an answer")
        self._open_prefix = open_prefix
        self._texts = texts
        self._limits = limits
        self._lang: Lang = lang
        self._sampling = sampling
        self._max_tokens = max_tokens
        self._rows = [
            _Row(i, task, texts.ids_after(task, lang=lang, history=history)) for i, task in enumerate(tasks)
        ]
        self._answers: dict[int, Answer] = {}
        self._seconds = {"first_token": 0.0, "prefill": 0.0, "decode": 0.0}
        self._prefilled = self._stepped = self._steps = 0
        self._prefix_ms: dict[str, float] = {}
        self._pieces = self._run()
        self._lock = nullcontext() if lock is None else lock

    def __next__(self) -> Piece:
        with self._lock:
            return next(self._pieces)

    def close(self) -> None:
        """Stop computing; answers not finished are lost."""
        with self._lock:
            self._pieces.close()

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Answers finished so far, in the order of the tasks."""
        return tuple(self._answers[i] for i in sorted(self._answers))

    @property
    def timing_ms(self) -> dict[str, float]:
        """Milliseconds spent, without the time the caller held a piece."""
        own = {name: seconds * 1e3 for name, seconds in self._seconds.items()}
        own["prefill"] += self._prefix_ms.get("prefill", 0.0)
        return {**{name: self._prefix_ms.get(name, 0.0) for name in ("load", "perceiver")}, **own}

    @property
    def speed(self) -> dict[str, float]:
        """Positions and tokens a second, and GB of weights read a second while decoding; only what was
        measured.
        """
        prefill, decode = self.timing_ms["prefill"] / 1e3, self._seconds["decode"]
        found: dict[str, float] = {}
        if prefill > 0 and self._prefilled:
            found["prefill_tokens"] = self._prefilled
            found["prefill_tokens_per_s"] = self._prefilled / prefill
        if decode > 0 and self._stepped:
            found["decode_tokens"] = self._stepped
            found["decode_tokens_per_s"] = self._stepped / decode
            found["decode_gb_per_s"] = self._steps * self._limits.step_bytes / decode / 1e9
        return found

    def _run(self) -> Generator[Piece, None, None]:
        start = time.perf_counter()
        prefix = self._open_prefix()
        self._prefix_ms, self._prefilled = prefix.timing_ms, prefix.computed
        start += prefix.timing_ms["load"] / 1e3
        for first in range(0, len(self._rows), BATCH):
            yield from self._batch(
                prefix.decoder, self._rows[first : first + BATCH], start=start if first == 0 else None
            )

    def _batch(self, prefix: Decoder, rows: Sequence[_Row], *, start: float | None) -> Iterator[Piece]:
        before = prefix.lengths[0]
        # The last token of an answer is never fed back, hence one more than there are positions left.
        room = [self._limits.max_length - before - len(row.ids) + 1 for row in rows]
        if min(room) < 1:
            raise WontFitError(
                f"the question has {max(len(row.ids) for row in rows)} tokens after {before} for the region; "
                f"this bundle holds {self._limits.max_length} in all: shorten it"
            )
        clock = time.perf_counter()
        decoder = prefix.branch(len(rows))
        logits = decoder.prefill([prefix.embed(row.ids) for row in rows])
        self._prefilled += sum(len(row.ids) for row in rows)
        self._seconds["prefill"] += time.perf_counter() - clock
        steps = generate(
            decoder,
            logits,
            samplers=[self._sampling.sampler(salt=salt(row.ids)) for row in rows],
            limits=[min(self._max_tokens, r) for r in room],
            stop_ids=self._limits.stop_ids,
        )
        streams = [self._texts.detokenizer() for _ in rows]
        ids: list[list[int]] = [[] for _ in rows]
        texts: list[list[str]] = [[] for _ in rows]
        last = 0
        while (token := self._timed(steps)) is not None:
            if start is not None:
                self._seconds["first_token"], start = time.perf_counter() - start, None
            row = rows[token.row]
            last = max(last, token.index)
            self._stepped += token.index > 0
            text = "" if token.id is None else streams[token.row].push(token.id)
            if token.id is not None:
                ids[token.row].append(token.id)
            if token.finish is not None:
                text += streams[token.row].finish()
            texts[token.row].append(text)
            answer = None
            if token.finish is not None:
                whole = "".join(texts[token.row])
                answer = Answer(task_name(row.task), self._lang, whole, tuple(ids[token.row]), token.finish)
                self._answers[row.index] = answer
            if text or answer:
                yield Piece(row.index, task_name(row.task), text, answer)
        self._steps += last

    def _timed(self, steps: Iterator[Token]) -> Token | None:
        clock = time.perf_counter()
        token = next(steps, None)
        if token is not None and token.index > 0:
            self._seconds["decode"] += time.perf_counter() - clock
        return token


def salt(ids: Sequence[int]) -> int:
    """What tells one question's random numbers from another's: its own tokens, not its place among others."""
    return zlib.crc32(np.array(ids, "<i4").tobytes())
