"""The decoding loop: logits in, tokens out, for several rows at once.

A sampler is any callable from one row's logits to a token. Each row has its own, with its own random numbers,
so a row's tokens do not depend on other rows. A finished row is removed from the decoder at once. Knows no
text, no model and no engine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pam_edge.core.errors import QualityError, UsageError
from pam_edge.runtimes.common.session import Decoder

Floats = npt.NDArray[np.float32]
Sampler = Callable[[Floats], int]
Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Token:
    """What one row did in one step: a token, the row's end, or both (its last token at the length limit)."""

    row: int  # as at the start, however many rows have gone since
    index: int  # which step of that row, from 0; step 0 costs no run of the decoder
    id: int | None  # None where a stop token ended the row: it is no part of the answer
    finish: Finish | None


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: temperature 0 (the default) always takes the likeliest.

    `top_p` keeps the smallest set of likeliest tokens that together reach that probability. The same `seed`
    gives the same text. Raises UsageError for values that mean nothing.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise UsageError(f"temperature {self.temperature} is out of range: 0 (greedy) to 100")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p {self.top_p} is out of range: above 0, at most 1")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative")

    def sampler(self, salt: int = 0) -> Sampler:
        """A sampler for one row; `salt` tells rows of the same seed apart (use what identifies the row's
        question).
        """
        if self.temperature == 0:
            return greedy
        random = np.random.default_rng([self.seed, salt])
        return lambda logits: _draw(logits, temperature=self.temperature, top_p=self.top_p, random=random)


def greedy(logits: Floats) -> int:
    """The likeliest token; the lowest of equals. Raises QualityError where the logits are not numbers."""
    best = int(logits.argmax())
    if not np.isfinite(logits[best]):
        raise QualityError("the decoder's logits are not finite; run `pam-edge verify` on this bundle here")
    return best


def generate(
    decoder: Decoder,
    logits: Floats,
    *,
    samplers: Sequence[Sampler],
    limits: Sequence[int],
    stop_ids: Collection[int],
) -> Iterator[Token]:
    """Run rows to their ends from `logits` [rows, vocabulary] of their last positions.

    `limits` are the most tokens for each row (at least 1). Rows come in order within a step. The decoder is
    used up. Closing the iterator stops the work.
    """
    rows = list(range(len(samplers)))
    index = 0
    while rows:
        alive: list[int] = []  # positions among the rows the decoder still holds
        tokens: list[int] = []
        for position, row in enumerate(rows):
            token = samplers[row](logits[position])
            if token in stop_ids:
                yield Token(row, index, None, "stop")
                continue
            last = index + 1 >= limits[row]
            yield Token(row, index, token, "length" if last else None)
            if not last:
                alive.append(position)
                tokens.append(token)
        if not alive:
            return
        if len(alive) < len(rows):
            decoder.keep(alive)
            rows = [rows[position] for position in alive]
        logits = decoder.step(tokens)
        index += 1


def _draw(logits: Floats, *, temperature: float, top_p: float, random: np.random.Generator) -> int:
    best = greedy(logits)
    with np.errstate(over="ignore"):  # a hair above greedy: all others fall to nothing
        weights = np.exp((logits.astype(np.float64) - logits[best]) / temperature)
    kept = np.flatnonzero(weights)
    if top_p < 1:
        kept = kept[np.argsort(-weights[kept], kind="stable")]
        reached = np.cumsum(weights[kept])
        kept = kept[: int(np.searchsorted(reached, top_p * reached[-1])) + 1]
    reached = np.cumsum(weights[kept])
    place = int(np.searchsorted(reached, random.random() * reached[-1], side="right"))
    return int(kept[min(place, kept.size - 1)])
