"""`pam-edge compare`: what is worse, what is noise, and how the command ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from command import pam_edge, refused
from test_rows import ROW

from pam_edge.benchmarks.harness.compare import compare, read_share, regressions, to_text
from pam_edge.benchmarks.harness.rows import Load, Row, put_rows, stats
from pam_edge.core.errors import UsageError

BUSY = Load(average_before=1, others_mean=0.3, others_worst=0.5, stolen=0, idle=False)


def row(samples: Sequence[int], measure: str = "total", **changed: object) -> Row:
    found = msgspec.structs.replace(ROW, measure=measure, samples=tuple(samples), **changed)
    return msgspec.structs.replace(found, stats=stats(samples) if samples else None)


STEADY = [1000, 1001, 1002, 1003, 1004]


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (STEADY, [int(1.04 * s) for s in STEADY], "same"),
        (STEADY, [int(1.2 * s) for s in STEADY], "worse"),
        (STEADY, [int(0.8 * s) for s in STEADY], "better"),
        ([1000, 1300, 700, 1400, 600], [1100, 1500, 800, 1600, 700], "noise"),
        (STEADY, [], "fails now"),
        ([], STEADY, "not measured"),
    ],
)
def test_verdicts(a: list[int], b: list[int], verdict: str) -> None:
    (pair,) = compare([row(a)], [row(b, commit="d" * 40, bundle="e" * 64)], most=0.05)
    assert pair.verdict == verdict
    assert bool(regressions([pair])) is (verdict in ("worse", "fails now"))


def test_a_change_and_its_noise_are_shares_of_medians() -> None:
    (pair,) = compare([row([90, 100, 110])], [row([108, 120, 132])], most=0.05)
    assert pair.change == pytest.approx(0.2)
    assert pair.noise == pytest.approx((0.1**2 + 0.1**2) ** 0.5 / 2)  # quartiles are 10 % apart
    assert pair.verdict == "worse"


def test_rows_of_one_file_alone_are_listed_and_the_last_of_a_name_counts() -> None:
    a = [row([100, 100, 100]), row(STEADY), row(STEADY, "mask")]
    pairs = compare(a, [row(STEADY), row(STEADY, "encode", load=BUSY)], most=0.05)
    assert [(p.name[1], p.verdict) for p in pairs] == [
        ("total", "same"), ("mask", "not in B"), ("encode", "not in A"),
    ]  # fmt: skip
    text = to_text(pairs, most=0.05)
    assert "0 of 3 are worse by more than 5%." in text and "not in A BUSY" in text


def test_files_without_anything_in_common_are_refused() -> None:
    with pytest.raises(UsageError, match="no measurement in common"):
        compare([row(STEADY)], [row(STEADY, scheme="int8")], most=0.05)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.05", 0.05), ("12.5 %", 0.125), ("0", 0)])
def test_shares(text: str, share: float) -> None:
    assert read_share(text) == pytest.approx(share)
    with pytest.raises(UsageError, match="--max-regress"):
        read_share(f"-{text}")


def test_the_command_exits_8_on_a_regression_and_0_without(tmp_path: Path) -> None:
    before, after = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    put_rows(before, [row(STEADY)])
    put_rows(after, [row([2 * s for s in STEADY])])
    result = pam_edge("compare", before, after)
    assert result.code == 8 and "| 2.000 |" in result.out and "1 are worse by more than 5%" in result.err
    assert pam_edge("compare", after, before).code == 0
    assert pam_edge("compare", before, after, "--max-regress", "100%").code == 0
    noisy = tmp_path / "noisy.jsonl"
    put_rows(noisy, [row([900, 1400, 1100, 1700, 800])])
    result = pam_edge("compare", before, noisy)
    assert result.code == 0 and "spread is larger than the difference" in result.out


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    put_rows(path, [row(STEADY)])
    refused(pam_edge("compare", path, tmp_path / "none.jsonl"), 2, "no file of rows")
    (tmp_path / "bad.jsonl").write_bytes(b"{}\n")
    refused(pam_edge("compare", path, tmp_path / "bad.jsonl"), 6, "line 1 is no Row")
    refused(pam_edge("compare", path, path, "--max-regress", "much"), 2, "--max-regress")
