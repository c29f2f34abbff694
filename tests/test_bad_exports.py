"""Exports that cannot be: a clear message, the right exit code, nothing half-made that opens."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bomb import Bomb
from command import pam_edge, refused

if TYPE_CHECKING:
    from golden.seeded import GoldenFolder


EXPORT = ("export", "--target", "cpu")


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (["--weights", "nowhere"], 2, "nowhere"),
        (["--weights", "random:pam-9t"], 2, "known: nano"),
        (["--weights", "random:"], 2, "known: nano"),
        (["--weights", ""], 2, "empty"),
        (["--weights", "random:nano", "--sam2", "x.pt"], 2, "--sam2"),
        (["--scheme", "int1"], 2, "fp32"),
        (["--seed", "-1"], 2, "seed"),
    ],
)
def test_exports_that_make_no_sense(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(pam_edge(*EXPORT, *words, "-o", "out"), code, word)
    assert not (tmp_path / "out").exists()


def test_an_unknown_target_lists_the_known(tmp_path: Path) -> None:
    refused(pam_edge("export", "--target", "toaster", "-o", tmp_path / "out"), 2, "known: ", "cpu")


def cut_weights(g: GoldenFolder) -> None:
    path = sorted(g.weights.glob("*.safetensors"))[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lead_outside(g: GoldenFolder) -> None:
    path = g.weights / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], "../../etc/passwd")
    path.write_text(json.dumps(index))


def lose_a_key(g: GoldenFolder) -> None:
    path = g.weights / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"].pop("model.norm.weight")
    path.write_text(json.dumps(index))


def plant_code(g: GoldenFolder) -> None:
    g.sam2.write_bytes(pickle.dumps({"model": Bomb(g.sam2.parent / "executed")}))


SPOILT: dict[str, tuple[Callable[[GoldenFolder], object], str]] = {
    "truncated weights": (cut_weights, "safetensors"),
    "an index that leads outside": (lead_outside, "passwd"),
    "a key less": (lose_a_key, "model.norm.weight"),
    "broken config": (lambda g: (g.weights / "config.json").write_text("{"), "config.json"),
    "deep config": (lambda g: (g.weights / "config.json").write_text("[" * 100_000), "config.json"),
    "absurd config": (
        lambda g: (g.weights / "config.json").write_text('{"hidden_size": 1e99}'),
        "config.json",
    ),
    "no tokenizer": (lambda g: (g.weights / "tokenizer.json").unlink(), "token"),
    "broken tokenizer": (lambda g: (g.weights / "tokenizer.json").write_text("{}"), "token"),
    "a pickle with code": (plant_code, "sam2_tiny.pt"),
    "truncated SAM 2": (lambda g: g.sam2.write_bytes(g.sam2.read_bytes()[:5000]), "sam2_tiny.pt"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_weights_that_are_damaged_or_hostile(folder: GoldenFolder, tmp_path: Path, case: str) -> None:
    spoil, word = SPOILT[case]
    spoil(folder)
    words = ["--weights", folder.weights, "--sam2", folder.sam2, "--sam2-config", folder.sam2_config]
    refused(pam_edge(*EXPORT, *words, "-o", tmp_path / "out"), 6, word)
    assert not (tmp_path / "out").exists()
    assert not (folder.sam2.parent / "executed").exists()


def test_places_an_export_must_not_or_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(pam_edge(*EXPORT, "-o", tmp_path / "file"), 2, "is a file")
    refused(pam_edge(*EXPORT, "-o", tmp_path / "file" / "below"), 2, "is a file")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    refused(pam_edge(*EXPORT, "--force", "-o", tmp_path / "photos"), 2, "other files")
    assert (tmp_path / "file").read_text() == "mine"
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["a.jpg"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where not even root may write")
def test_a_place_where_nobody_may_write() -> None:
    refused(pam_edge(*EXPORT, "-o", "/proc/pam-edge"), 3, "/proc/pam-edge")
