"""What a loss says: nothing lost is 0, what is known by hand comes out, what is broken is never small."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_edge.bundle.golden import HUGE
from pam_edge.verify.error_metrics import (
    clear_tokens,
    clearly,
    edits,
    first_difference,
    iou_loss,
    logit_noise,
    noise,
    token_loss,
)

RNG = np.random.default_rng(0)
SIGNAL = RNG.standard_normal((1, 6, 40))


def test_what_is_the_same_loses_nothing() -> None:
    for loss in (noise, iou_loss, token_loss):
        assert loss(SIGNAL, SIGNAL) == pytest.approx(0, abs=1e-12)
    assert noise(np.zeros(5), np.zeros(5)) == 0
    assert iou_loss(-(SIGNAL**2), -(SIGNAL**2)) == 0, "two empty masks are the same"


def test_noise_is_the_inverse_of_a_signal_to_noise_ratio() -> None:
    hiss = RNG.standard_normal((1, 200, 500))
    signal = RNG.standard_normal(hiss.shape) * 7
    assert noise(signal + 0.7 * hiss, signal) == pytest.approx(10 ** (-20 / 20), rel=0.02)
    assert noise(0 * SIGNAL, SIGNAL) == pytest.approx(1), "zeros in place of a tensor"
    assert noise(np.array([[0.4]]), np.array([[0.1]])) == pytest.approx(0.3), "a number alone is not a signal"


def test_what_all_logits_share_chooses_no_token() -> None:
    row = SIGNAL[0, 0]
    assert logit_noise(row + 50, row + 3) == pytest.approx(0, abs=1e-9)
    assert logit_noise(1.5 * row, row) == pytest.approx(0.5)


def test_masks_and_tokens_by_hand() -> None:
    a, b = np.array([1.0, 1, 1, -1]), np.array([1.0, 1, -1, 1])
    assert iou_loss(a, b) == pytest.approx(0.5)
    tokens = np.array([[3.0, 0], [0, 2], [0, 0]])
    assert token_loss(np.array([[1.0, 0], [1, 1], [5, 5]]), tokens) == pytest.approx(1 - math.sqrt(0.5))
    assert token_loss(np.array([[1.0, 0], [0, 0], [0, 0]]), tokens) == 1, "a zeroed token"
    assert token_loss(np.array([[1.0, 0], [0, -1], [0, 0]]), tokens) == 2, "turned around"


@pytest.mark.parametrize("loss", [noise, logit_noise, iou_loss, token_loss])
def test_no_number_is_no_small_loss(loss: object) -> None:
    assert callable(loss)
    spoiled = SIGNAL.copy()
    spoiled[0, 0, 0] = np.nan
    assert loss(spoiled, SIGNAL) == HUGE
    assert loss(SIGNAL[:, :3], SIGNAL) == HUGE


def test_a_margin_is_measured_in_what_is_allowed() -> None:
    assert clearly(0.4, 0.1)
    assert not clearly(0.2, 0.1)
    assert clear_tokens((5.0, 4.0, 0.1, 6.0), 0.1) == 2
    assert clear_tokens((), 0.1) == 0


def test_clear_tokens_seldom_change_under_the_noise_that_is_allowed() -> None:
    """What CLEAR promises, by drawing: noise of the allowed size on rows whose margin is just clear."""
    allowed, changed, rows = 0.1, 0, 4000
    for hiss in RNG.standard_normal((rows, 2)):
        changed += hiss[0] * allowed + 3 * allowed < hiss[1] * allowed
    assert changed / rows < 1 / 50


def test_edits_by_hand() -> None:
    assert edits([1, 2, 3], [1, 2, 3]) == 0
    assert edits([], [1, 2]) == 2
    assert edits([1, 9, 2, 3], [1, 2, 3, 4]) == 2
    assert first_difference([1, 2, 3], [1, 2]) == 2
    assert first_difference([1, 5, 3], [1, 2, 3]) == 1


@given(st.lists(st.integers(0, 4), max_size=8), st.lists(st.integers(0, 4), max_size=8))
def test_edits_are_a_distance(a: list[int], b: list[int]) -> None:
    assert edits(a, b) == edits(b, a)
    assert abs(len(a) - len(b)) <= edits(a, b) <= max(len(a), len(b))
    assert (edits(a, b) == 0) == (a == b)
