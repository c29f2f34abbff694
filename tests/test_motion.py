"""What counts as right in motion, by made-up answers; the evaluation, over a model that sees squares."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command import pam_edge, refused
from fake_clip import REST, film
from fake_video import scene, video_pam
from fakes import spelled
from PIL import Image

from pam_edge.benchmarks.quality import clip_scores, clips
from pam_edge.benchmarks.quality.clip_report import Motion, to_text
from pam_edge.benchmarks.quality.clips import evaluate
from pam_edge.benchmarks.quality.streaming import Stream
from pam_edge.benchmarks.synthetic import (
    COLOURS,
    KINDS,
    LANGUAGES,
    Clip,
    Combo,
    Language,
    Segment,
    clip,
    event_caption,
    named_event,
    named_kind,
    segment_caption,
    told_in_full,
    told_subject,
)
from pam_edge.benchmarks.synthetic.moves import EVENTS
from pam_edge.bundle.builtin import BUNDLE
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.pam import Pam
from pam_edge.pipeline.results import Answer
from pam_edge.video.clip_caption import frame_choice
from pam_edge.video.stream import Caption, Plan, follow

SIDES = {"leave": ("left", "right", "top", "bottom"), "leave and return": ("left", "top")}


@pytest.fixture(scope="module")
def hides() -> Clip:
    """A clip whose target leaves the picture and comes back."""
    found = (clip(seed) for seed in range(20))
    return next(c for c in found if any(s.event == "leave and return" for s in c.segments))


def scripts(target: Combo, cover: Combo) -> Iterator[Clip]:
    """Clips of every event after every other; they hold no pictures."""
    nothing = np.zeros((0, 1, 1), np.uint8)
    for first in EVENTS:
        for second in EVENTS:
            for side in SIDES.get(second, ("",)):
                parts = [(first, SIDES.get(first, ("",))[0]), (second, side)]
                segments = tuple(
                    Segment(16 * i, 16 * i + 16, event, place, cover if event == "covered" else None)
                    for i, (event, place) in enumerate(parts)
                )
                yield Clip(nothing, nothing > 0, target, segments, 0, "train", nothing, (target, cover))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_caption_is_read_back_as_it_was_meant(language: Language) -> None:
    names = [kind.name for kind in KINDS]
    for number, kind in enumerate(names):
        cover = Combo(names[number - 1], COLOURS[number % len(COLOURS)].name, "striped")
        target = Combo(kind, COLOURS[number // 2 % len(COLOURS)].name, "plain")
        for filmed in scripts(target, cover) if number < 3 else list(scripts(target, cover))[number::29]:
            for index, part in enumerate(filmed.segments):
                text = segment_caption(filmed, index, language)
                assert named_event(text, language) == part.event, text
                assert named_kind(told_subject(text, language), language) == kind, text
                assert told_in_full(text, filmed, index, language)


@pytest.mark.parametrize(
    ("text", "language", "event"),
    [
        ("", "en", None),
        ("The cup.", "en", None),
        ("The cup moves to the left and turns clockwise.", "en", None),  # which of the two?
        ("After moving to the left, the cup.", "en", None),
        ("After the cup moves to the left, the cup turns clockwise.", "en", "turn clockwise"),
        ("The cup moves to the left, the cup moves to the left.", "en", None),
        ("The cup turns counterclockwise.", "en", "turn counterclockwise"),
        ("The cup leaves the picture.", "en", None),
        ("The cup leaves the picture at the top.", "en", "leave"),
        ("The cup leaves the picture at the top and comes back.", "en", "leave and return"),
        ("The cup leaves the picture at the top and comes", "en", "leave"),
        ("The cup is covered by", "en", None),
        ("The cup is covered by a hat and appears again.", "en", "covered"),
        ("The cup moves to the leftovers.", "en", None),
        ("在向左移动之后，杯子。", "zh", None),
        ("在向左移动之后，杯子向右移动。", "zh", "move right"),
        ("杯子向左移动又向右移动。", "zh", None),
        ("杯子逆时针转动。", "zh", "turn counterclockwise"),
        ("杯子从左侧离开画面。", "zh", "leave"),
        ("杯子从左侧离开画面后又回来。", "zh", "leave and return"),
        ("杯子离开画面。", "zh", None),
        ("杯子被遮住又出现。", "zh", None),
    ],
)
def test_an_event_is_the_one_that_is_told(text: str, language: Language, event: str | None) -> None:
    assert named_event(text, language) == event


def test_what_covers_is_not_what_is_covered() -> None:
    for text, language, kind in (
        ("A red cup is covered by a blue book and appears again.", "en", "cup"),
        ("Is covered by a blue book and appears again.", "en", None),
        ("After being covered, the cup is covered by a blue book and appears again.", "en", "cup"),
        ("一个红色杯子被一本蓝色书遮住后又重新出现。", "zh", "cup"),
        ("被一本蓝色书遮住后又重新出现。", "zh", None),
    ):
        assert named_kind(told_subject(text, language), language) == kind  # type: ignore[arg-type]


def test_masks_of_the_window(hides: Clip) -> None:
    first, hidden = clip_scores.window(hides)
    target, *others = clip_scores.subjects(hides)
    assert hidden and target.box == clip_scores.box_at(hides, first) and len(target.masks) == clip_scores.LONG
    seen = target.masks.any(axis=(1, 2))
    for other in others:
        assert other.click is not None and other.masks[0][other.click[1], other.click[0]]
    still = {other.name: list(other.masks) for other in others}
    figures: clip_scores.Figures = {}
    ious = clip_scores.add_window(figures, hides, {"target": list(target.masks), **still})
    assert np.isnan(ious["target"]).sum() == (~seen).sum() > 0
    assert {value for values in figures.values() for value in values} == {1.0}
    assert len(figures["target mIoU"]) == len(figures["hidden mIoU"]) == seen.sum()
    assert 0 < len(figures["found again mIoU"]) < seen.sum() and "in sight mIoU" not in figures
    # Lost when it left and never found again: what came before does not hide it.
    left = int(np.argmin(seen))
    lost = [mask if n < left else np.zeros_like(mask) for n, mask in enumerate(target.masks)]
    figures.clear()
    clip_scores.add_window(figures, hides, {"target": lost, **still})
    assert set(figures["found again mIoU"]) == {0.0} and set(figures["target absent, called so"]) == {1.0}
    assert np.mean(figures["target in sight, called so"]) == np.mean(figures["target mIoU"]) < 1
    # Everything always is no way to be right: the whole picture as mask.
    figures.clear()
    clip_scores.add_window(figures, hides, {"target": list(np.ones_like(target.masks)), **still})
    assert max(figures["target mIoU"]) < 0.5 and set(figures["target absent, called so"]) == {0.0}
    with pytest.raises(ValueError, match="argument 2 is longer"):
        clip_scores.add_window(figures, hides, {"target": lost[:-1], **still})


def test_the_window_hides_the_target_where_it_says_so() -> None:
    for seed in range(6):
        filmed = clip(seed, "heldout")
        first, hidden = clip_scores.window(filmed)
        masks = filmed.masks[first : first + clip_scores.LONG]
        assert masks.shape[0] == clip_scores.LONG and masks[0].any()
        if hidden:
            assert masks.sum(axis=(1, 2)).min() < 0.4 * masks[0].sum()


def perfect(filmed: Clip, lang: Language) -> list[str]:
    return [segment_caption(filmed, k, lang) for k in range(len(filmed.segments))]


def scored(filmed: Clip, said: list[str], lang: Language = "en") -> dict[str, float]:
    figures: clip_scores.Figures = {}
    clip_scores.add_stream(figures, filmed, {lang: said})
    return {name: float(np.mean(values)) for name, values in figures.items()}


def test_captions_of_a_stream(hides: Clip) -> None:
    for lang in LANGUAGES:
        assert set(scored(hides, perfect(hides, lang), lang).values()) == {1.0}
    *before, last = perfect(hides, "en")
    count = len(before) + 1
    for wrong in ("A pair of glasses stays.", "", "The."):
        found = scored(hides, [*before, wrong])
        assert found["named the same throughout en"] == found["named right throughout en"] == 0
        assert found["event en"] == found["event in full en"] == pytest.approx(1 - 1 / count)
    # Nothing said is no way to say the same; nor is one segment told and the rest lost.
    for said, right in (([], 0), ([""] * count, 0), (perfect(hides, "en")[:1], 1)):
        found = scored(hides, said)
        assert found["named the same throughout en"] == 0 and found["event en"] == right / count
    # The wrong name, but always: the same, and not right.
    other = "cup" if hides.target.kind == "hat" else "hat"
    named = scored(hides, [re.sub(rf"\b{hides.target.kind}\b", other, text) for text in perfect(hides, "en")])
    assert named["named the same throughout en"] == named["event en"] == 1
    assert named["named right throughout en"] == named["segment caption exact en"] == 0
    # The side it leaves by belongs to the whole of it, not to the event.
    turned = [
        text.replace("on the left", "#").replace("on the right", "on the left").replace("#", "on the right")
        for text in perfect(hides, "en")
    ]
    turned = [
        text.replace("at the top", "on the left").replace("at the bottom", "on the left") for text in turned
    ]
    found = scored(hides, turned)
    assert found["event en"] == 1 and found["event in full en"] < 1
    with pytest.raises(ValueError, match="captions of"):
        scored(hides, [*before, last, last])


def test_the_caption_of_a_whole_clip(hides: Clip) -> None:
    def place(text: str) -> float:
        figures: clip_scores.Figures = {}
        clip_scores.add_whole(figures, hides, {"en": text})
        assert figures["clip caption exact en"] == [float(text == event_caption(hides))]
        return figures["clip events, in place en"][0]

    whole = event_caption(hides)
    count = len(hides.segments)
    first, *rest = whole.split(", then ")
    assert place(whole) == 1 and place("") == 0
    assert place(first) == pytest.approx(1 / count)
    assert place(", then ".join([first, "it glows", *rest])) == pytest.approx(1 / (count + 1))
    assert place(", then ".join([first, *rest, "lies still"])) == pytest.approx(count / (count + 1))


# The evaluation itself, over a model that sees white squares.


def answering(
    say: Callable[[str], str],
) -> tuple[Callable[[float, tuple[int, ...]], list[int]], dict[str, Pam]]:
    """What a model knows that is told nothing but the caption before, and the Pam it belongs to, later."""
    pams: dict[str, Pam] = {}

    def knows(region: float, after: tuple[int, ...]) -> list[int]:
        return spelled(say(pams["pam"].texts.decode(after)))

    return knows, pams


def next_caption(filmed: Clip) -> Callable[[str], str]:
    """The right caption of the segment after the one whose caption is told."""

    def say(asked: str) -> str:
        for lang in LANGUAGES:
            captions = perfect(filmed, lang)
            for before, after in pairwise(captions):
                if before in asked:
                    return after
        chinese = any("\u4e00" <= c <= "\u9fff" for c in asked)
        return perfect(filmed, "zh" if chinese else "en")[0]

    return say


def measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, say: Callable[[str], str], *, filmed: Clip | None = None
) -> Motion:
    """One clip of squares, evaluated. The whole clip's caption is given: it is asked for as the first's."""
    shown = filmed or film()
    knows, pams = answering(say)
    pams["pam"], _ = video_pam(folder / "bundle", knows)
    monkeypatch.setattr(clips, "clip", lambda seed, split: shown)
    monkeypatch.setattr(clip_scores, "_SMALL", 10)
    monkeypatch.setattr(clips, "about_bundle", lambda bundle: {})
    told = clips.told

    def whole(pam: Pam, read: object, lang: Language, *, max_tokens: int) -> Answer:
        answer = told(pam, read, lang, max_tokens=max_tokens)  # type: ignore[arg-type]
        assert read.chosen == frame_choice(len(shown.frames))  # type: ignore[attr-defined]
        return replace(answer, text=event_caption(shown, lang))

    monkeypatch.setattr(clips, "told", whole)
    return evaluate(pams["pam"], 7, 1, langs=LANGUAGES, max_tokens=200)


def test_perfect_answers_are_perfect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = measured(tmp_path, monkeypatch, next_caption(film()))
    cells = report.masks
    assert (cells.target.value, cells.hidden.value, cells.found_again.value) == (1, 1, 1)
    assert (cells.target.n, cells.absent.n, cells.found_again.n) == (32 - 8, 8, 20)
    assert cells.bystander.value == 1 and cells.bystander.n == 32
    assert cells.in_sight.value is None and "every clip hides" in cells.in_sight.note
    assert (report.clips, report.frames, report.lost, report.cut_off) == (1, 48, 0, 0)
    for told in report.languages.values():
        assert told.event.value == told.event_in_full.value == told.exact.value == 1 and told.event.n == 3
        assert told.same_name.value == told.right_name.value == told.colour.value == 1
        assert told.clip_events.value == told.clip_exact.value == 1
        assert {event: cell.n for event, cell in told.by_event.items()} == {
            "move right": 1, "move left": 1, "covered": 1,
        }  # fmt: skip
    text = to_text(report, {"en": "English", "zh": "Chinese"})
    assert "1 clips, 48 frames" in text and "not measured" in text and "1.0000 (24)" in text


def test_wrong_answers_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = measured(tmp_path, monkeypatch, lambda asked: "A red cup moves to the right.")
    english, chinese = report.languages["en"], report.languages["zh"]
    assert english.event.value == pytest.approx(1 / 3) and english.same_name.value == 1
    assert {event: cell.value for event, cell in english.by_event.items()} == {
        "move right": 1, "move left": 0, "covered": 0,
    }  # fmt: skip
    assert chinese.event.value == chinese.same_name.value == chinese.colour.value == 0
    silent = measured(tmp_path / "silent", monkeypatch, lambda asked: "")
    assert silent.languages["en"].same_name.value == silent.languages["en"].event.value == 0
    assert silent.masks.target.value == 1


def test_a_target_that_is_lost_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not come back from behind what covered it, as far as the model sees."""
    filmed = film()
    frames = filmed.frames.copy()
    frames[28:] = np.asarray(scene(REST))
    report = measured(tmp_path, monkeypatch, next_caption(filmed), filmed=replace(filmed, frames=frames))
    assert report.masks.target.value == pytest.approx(4 / 24) and report.masks.found_again.value == 0
    assert report.masks.seen.value == pytest.approx(4 / 24) and report.masks.absent.value == 1
    assert report.lost == 1
    for told in report.languages.values():
        assert told.event.value == pytest.approx(2 / 3) and told.same_name.value == 0


@pytest.mark.parametrize("hidden", [range(0), range(12, 20), range(6, 34)], ids=str)
def test_a_stream_is_told_as_the_product_tells_it(tmp_path: Path, hidden: range) -> None:
    def said(region: float, after: tuple[int, ...]) -> list[int]:
        return spelled(f"{region:.2f} {len(after)}")

    pam, _ = video_pam(tmp_path, said)
    pictures = [scene() if n in hidden else scene((12 + n, 20)) for n in range(40)]
    box = Prompt(box=(8, 16, 16, 24))
    stream = Stream(pam, box, langs=["en", "zh"], max_tokens=20)
    ours: dict[str, list[str]] = {"en": [], "zh": []}
    masks: list[np.ndarray] = []
    for first in range(0, 40, 8):
        stream.begin(8)
        masks += [stream.step(picture).mask for picture in pictures[first : first + 8]]
        answers = stream.end()
        for lang, texts in ours.items():
            texts.append("" if answers is None else answers[lang].text)
    for lang in LANGUAGES:
        plan = Plan("stream", every=8, length=40, lang=lang, max_tokens=20)
        events = list(follow(pam, iter(pictures), {0: {1: box}}, plan))
        assert [event.text for event in events if isinstance(event, Caption)] == ours[lang]
        followed = [event.objects[0].mask for event in events if not hasattr(event, "text")]
        assert all((a == b).all() for a, b in zip(followed, masks, strict=True))


def test_the_command_measures_clips(tmp_path: Path) -> None:
    words = ("eval", BUNDLE, "--world", "7", "--clips", "1", "--lang", "zh", "--max-tokens", "4")
    done = pam_edge(*words, "--json", "--out", tmp_path / "q", "--threads", "1")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["data"]["kind"] == "world clips" and report["masks"]["target"]["n"] > 0
    assert list(report["languages"]) == ["zh"] and report["languages"]["zh"]["event"]["value"] == 0
    assert json.loads((tmp_path / "q" / "motion.json").read_text()) == report


def test_words_about_clips_that_make_no_sense(tmp_path: Path) -> None:
    for words, told in (
        (["--clips", "1"], "give --world SEED"),
        (["--world", "1", "--clips", "0"], "0 clips"),
        (["--world", "-1", "--clips", "1"], "world seed -1"),
        (["--world", "1", "--clips", "1", "--n", "3"], "do not belong to --clips"),
        (["--clips", "1", "--data", "x.jsonl"], "give --world SEED"),
        (["--world", "1", "--clips", "1", "--streams", "--data", "x"], "do not belong to --streams"),
    ):
        refused(pam_edge("eval", BUNDLE, *words), 2, told)
    Image.new("RGB", (4, 4)).save(tmp_path / "file.png")
    words = ("--world", "1", "--clips", "1", "--out", tmp_path / "file.png")
    refused(pam_edge("eval", BUNDLE, *words), 2, "is a file")
