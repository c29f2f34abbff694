"""The first click from cold: what one process measures, and how rounds of both sides become ratios."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pam_edge.benchmarks.speed import cold
from pam_edge.bundle.builtin import BUNDLE
from pam_edge.core import user_cache


def test_a_process_times_its_first_click(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(user_cache.ENV, str(tmp_path))
    command = [sys.executable, "-m", "pam_edge.benchmarks.speed.cold", str(BUNDLE)]
    options = ["--once", "--threads", "1", "--tokens", "2"]
    row = json.loads(subprocess.run([*command, *options], stdout=subprocess.PIPE, check=True).stdout)
    assert row.keys() == {"open", "first mask", "answer", "peak_mb"}
    assert 0 < row["first mask"] < row["answer"]
    assert 0 < row["open"] < row["answer"]
    assert row["peak_mb"] > 10
    assert len(list((tmp_path / "onnxruntime").glob("*.onnx"))) == 3  # encoder, mask decoder, perceiver


def test_sides_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[bool] = []
    waited = {False: [900.0, 40.0, 60.0, 80.0], True: [800.0, 20.0, 20.0, 20.0]}

    def process(bundle: str, cache: Path, *, threads: int, tokens: int) -> dict[str, float]:
        assert (bundle, threads, tokens) == ("some/nano", 2, 16)
        monkeypatch.setenv(user_cache.ENV, str(cache))
        turns.append(user_cache.usable())  # whether this side can keep copies
        ms = waited[turns[-1]].pop(0)
        return {"open": ms, "first mask": ms + 1, "answer": ms + 2, "peak_mb": 100.0}

    monkeypatch.setattr(cold, "_process", process)
    found = cold.compare("some/nano", rounds=3, threads=2, tokens=16)
    assert turns == [False, True] * 4
    assert found["bundle"] == "nano"
    assert found["without"] == {"open": 60.0, "first mask": 61.0, "answer": 62.0, "peak_mb": 100.0}
    assert found["with"] == {"open": 20.0, "first mask": 21.0, "answer": 22.0, "peak_mb": 100.0}
    assert isinstance(ratios := found["ratios"], dict)
    assert ratios["open"] == [2.0, 3.0, 4.0]
