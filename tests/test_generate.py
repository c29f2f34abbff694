"""The decode loop: rows end on their own, neighbours do not matter, sampling means what it says."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pam_edge.core.errors import QualityError, UsageError
from pam_edge.text.decoding import Sampling, Token, generate, greedy

V = 11
STOP = {9, 10}


class Scripted:
    """A decoder whose rows say what their scripts hold; `asked` logs each step's tokens."""

    def __init__(self, scripts: Sequence[Sequence[int]]) -> None:
        self.scripts = [list(s) for s in scripts]
        self.said = [0] * len(scripts)
        self.asked: list[list[int]] = []

    def logits(self) -> np.ndarray:
        out = np.zeros((len(self.scripts), V), np.float32)
        for i, (script, said) in enumerate(zip(self.scripts, self.said, strict=True)):
            out[i, script[said]] = 1
        return out

    def step(self, tokens: Sequence[int]) -> np.ndarray:
        assert len(tokens) == len(self.scripts)
        self.asked.append(list(tokens))
        assert [s[n] for s, n in zip(self.scripts, self.said, strict=True)] == list(tokens)
        self.said = [n + 1 for n in self.said]
        return self.logits()

    def keep(self, rows: Sequence[int]) -> None:
        self.scripts = [self.scripts[i] for i in rows]
        self.said = [self.said[i] for i in rows]


def run(scripts: Sequence[Sequence[int]], limits: Sequence[int]) -> tuple[list[Token], Scripted]:
    decoder = Scripted(scripts)
    tokens = generate(
        decoder, decoder.logits(), samplers=[greedy] * len(scripts), limits=limits, stop_ids=STOP
    )
    return list(tokens), decoder


def test_rows_end_by_stop_or_length_and_leave_the_decoder() -> None:
    tokens, decoder = run([[1, 2, 9], [3, 10], [4, 5, 6, 7, 8], [9]], [10, 10, 4, 10])
    assert tokens == [
        Token(0, 0, 1, None),
        Token(1, 0, 3, None),
        Token(2, 0, 4, None),
        Token(3, 0, None, "stop"),
        Token(0, 1, 2, None),
        Token(1, 1, None, "stop"),
        Token(2, 1, 5, None),
        Token(0, 2, None, "stop"),
        Token(2, 2, 6, None),
        Token(2, 3, 7, "length"),
    ]
    assert decoder.asked == [[1, 3, 4], [2, 5], [6]]  # the last token is never fed back


@settings(max_examples=200, deadline=None)
@given(
    scripts=st.lists(st.lists(st.integers(0, 8), max_size=6).map(lambda s: [*s, 9]), min_size=1, max_size=5),
    limits=st.lists(st.integers(1, 8), min_size=5, max_size=5),
)
def test_each_row_says_its_script_whatever_its_neighbours(
    scripts: list[list[int]], limits: list[int]
) -> None:
    tokens, _ = run(scripts, limits)
    for row, script in enumerate(scripts):
        own = [t for t in tokens if t.row == row]
        assert [t.id for t in own if t.id is not None] == script[:-1][: limits[row]]
        assert [t.finish is not None for t in own] == [False] * (len(own) - 1) + [True]
        assert own[-1].finish == ("length" if len(script) - 1 >= limits[row] else "stop")
        assert [t.index for t in own] == list(range(len(own)))


def test_closing_stops_the_work() -> None:
    decoder = Scripted([[1, 2, 3, 9]])
    tokens = generate(decoder, decoder.logits(), samplers=[greedy], limits=[9], stop_ids=STOP)
    assert next(tokens).id == 1 and next(tokens).id == 2
    tokens.close()
    assert decoder.asked == [[1]]


def test_greedy_takes_the_likeliest_and_refuses_nonsense() -> None:
    assert greedy(np.array([0, 3, 3, -np.inf], np.float32)) == 1
    for bad in ([0, np.nan, 1], [np.inf, 0, 0], [-np.inf] * 3):
        with pytest.raises(QualityError, match="not finite"):
            greedy(np.array(bad, np.float32))


def frequencies(sampling: Sampling, logits: Sequence[float], n: int = 20_000) -> np.ndarray:
    sampler, values = sampling.sampler(), np.array(logits, np.float32)
    return np.bincount([sampler(values) for _ in range(n)], minlength=len(logits)) / n


def test_temperature_is_the_softmax() -> None:
    logits = [math.log(p) for p in (0.5, 0.3, 0.15, 0.05)]
    assert np.abs(frequencies(Sampling(temperature=1.0), logits) - [0.5, 0.3, 0.15, 0.05]).max() < 0.015
    squared = np.array([0.25, 0.09, 0.0225, 0.0025])
    assert np.abs(frequencies(Sampling(temperature=0.5), logits) - squared / squared.sum()).max() < 0.015


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = [math.log(p) for p in (0.15, 0.5, 0.05, 0.3)]
    found = frequencies(Sampling(temperature=1.0, top_p=0.75), logits)
    assert found[0] == found[2] == 0 and np.abs(found[[1, 3]] - [0.625, 0.375]).max() < 0.015
    assert frequencies(Sampling(temperature=1.0, top_p=0.01), logits, 50)[1] == 1


def test_extremes_do_not_break() -> None:
    logits = np.array([-1e30, 5, 4.999, -np.inf], np.float32)
    assert {Sampling(temperature=1e-300).sampler()(logits) for _ in range(20)} == {1}
    hot = Sampling(temperature=100).sampler()
    assert {hot(logits) for _ in range(200)} == {1, 2}


def test_seeds_and_salts() -> None:
    logits = np.zeros(1000, np.float32)

    def draws(seed: int, salt: int) -> list[int]:
        sampler = Sampling(temperature=1, seed=seed).sampler(salt)
        return [sampler(logits) for _ in range(5)]

    assert draws(1, 2) == draws(1, 2)
    assert len({tuple(draws(seed, salt)) for seed in range(3) for salt in range(3)}) == 9


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": 1e9},
        {"top_p": 0},
        {"top_p": 1.1},
        {"seed": -1},
    ],
)
def test_sampling_that_means_nothing(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"out of range|negative"):
        Sampling(**wrong)
