"""COCO run-length strings: known ones, and back and forth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pam_edge.core.errors import IntegrityError
from pam_edge.image import coco_rle


def mask_of(runs: list[int], size: tuple[int, int]) -> np.ndarray:
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size, order="F")


# The strings were written by pycocotools 2.0.11 (`mask.encode(np.asfortranarray(mask))["counts"]`).
KNOWN = [
    ([12], (3, 4), "<"),
    ([0, 12], (3, 4), "0<"),
    ([5, 2, 3, 2], (3, 4), "5230"),
    ([0, 1, 2, 3, 4, 2], (3, 4), "01222O"),
    ([1000, 3000, 40, 7000, 60, 900], (100, 120), r"Xo0hm2X1Pm3d0\QJ"),
    ([3] * 8, (4, 6), "33300000"),
    ([100000, 1, 299998, 1], (500, 800), "PeQ31nnT90"),
    ([1, 15, 1, 16, 1, 17, 1, 31, 1, 32, 1, 33, 1, 11], (9, 18), "1?11010>01010ZO"),
]


@pytest.mark.parametrize(("runs", "size", "counts"), KNOWN)
def test_known_strings(runs: list[int], size: tuple[int, int], counts: str) -> None:
    mask = mask_of(runs, size)
    assert coco_rle.encode(mask) == counts
    assert np.array_equal(coco_rle.decode(counts, size), mask)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.integers(0, 999))
def test_round_trip(height: int, width: int, density: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < density
    if seed % 2:  # long runs as well as short ones
        mask = np.repeat(np.repeat(mask, 1 + seed % 7, axis=0), 1 + seed % 5, axis=1)
    counts = coco_rle.encode(mask)
    assert counts.isascii() and counts.isprintable()
    assert np.array_equal(coco_rle.decode(counts, mask.shape), mask)


def test_against_pycocotools_where_it_is_installed() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for seed in range(50):
        mask = np.kron(rng.random((9, 7)) < seed / 50, np.ones((3, 5))) > 0
        assert (
            coco_rle.encode(mask) == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        )


def test_a_photos_mask_is_quick_and_small() -> None:
    yy, xx = np.mgrid[:3000, :4000]
    mask = np.hypot(yy - 1500, xx - 2000) < 900
    counts = coco_rle.encode(mask)
    assert len(counts) < 10_000
    assert np.array_equal(coco_rle.decode(counts, mask.shape), mask)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30), st.integers(-2, 40), st.integers(-2, 40))
def test_any_string_is_a_mask_or_refused(counts: str, height: int, width: int) -> None:
    try:
        mask = coco_rle.decode(counts, (height, width))
    except IntegrityError:
        return
    assert mask.shape == (height, width)


@pytest.mark.parametrize(
    ("counts", "size"),
    [
        ("", (2, 2)),
        ("5", (2, 2)),
        ("4 ", (2, 2)),
        ("T", (2, 2)),
        ("P" * 20, (2, 2)),
        ("4", (0, 2)),
        ("4", (1 << 20, 1 << 20)),
    ],
)
def test_damage_is_named(counts: str, size: tuple[int, int]) -> None:
    with pytest.raises(IntegrityError, match="mask"):
        coco_rle.decode(counts, size)
