"""The evaluation over a stand-in that knows the truth, so that every figure is known beforehand."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from oracle import Oracle

from pam_edge.benchmarks.quality import caption_scores, tally
from pam_edge.benchmarks.quality.cases import Ask, Case, Judged, Source
from pam_edge.benchmarks.quality.evaluation import prepare_folder, write_results
from pam_edge.benchmarks.quality.gallery import Gallery
from pam_edge.benchmarks.quality.pictures import evaluate
from pam_edge.benchmarks.quality.report import Report, to_json, to_text
from pam_edge.benchmarks.quality.world_cases import world_source
from pam_edge.benchmarks.report.evaluation import page
from pam_edge.benchmarks.synthetic.clicks import depth
from pam_edge.core.errors import EnvironmentProblem, UsageError
from pam_edge.image.preprocess import Prompt

BOTH = ("en", "zh")


@pytest.fixture(autouse=True)
def _without_java_and_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds to start is tested in test_quality_metrics.py."""
    monkeypatch.setattr(caption_scores.shutil, "which", lambda name: None)

    def absent() -> Path:
        raise EnvironmentProblem("the sentence-embedding model is not installed; pip install it")

    monkeypatch.setattr(tally, "model_folder", absent)


@pytest.fixture(scope="module")
def source() -> Source:
    return world_source(11, 4, langs=BOTH)


def cases_of(source: Source) -> list[Case]:
    return [case for picture in source.pictures() for case in picture.cases]


def measured(tmp_path: Path, source: Source, **mistakes: Callable[..., object]) -> Report:
    return evaluate(Oracle(tmp_path / "bundle", source, **mistakes), source, langs=BOTH)


def test_the_truth_scores_full_marks(tmp_path: Path, source: Source) -> None:
    cases = cases_of(source)
    report = measured(tmp_path, source)
    assert (report.cases, report.pictures) == (len(cases), 4)
    assert report.click_iou.value == report.box_iou.value == 1
    assert report.click_iou.n == len(cases)
    for lang in BOTH:
        words = report.languages[lang]
        assert words.category.value == words.definition.value == words.colour.value == 1
        assert words.semantic_iou.value == 1
        assert words.colour.n == 2 * len(cases)  # brief and detailed
        assert set(words.captions) == {"brief", "detailed"}
    assert sum(kind.cases for kind in report.kinds) == len(cases)
    assert [kind.kind for kind in report.kinds] == sorted({case.kind for case in cases})


def test_mistakes_cost_what_they_should(tmp_path: Path, source: Source) -> None:
    cases = cases_of(source)
    wrong = {case.name for case in cases[::3]}

    def says(case: Case, ask: Ask) -> str:
        if case.name in wrong and ask.lang == "en":
            if ask.task == "recognize":
                return "dining table"
            if ask.task == "explain":
                return ask.truth + " Really."
            if ask.task == "brief":
                return ask.truth.replace(f" {case.colour}", " colourless")
        return ask.truth

    def sees(case: Case, prompt: Prompt) -> np.ndarray:
        assert case.mask is not None
        half = case.mask.copy()  # about half of it, and nothing else
        half[: int(np.median(np.nonzero(half)[0]))] = False
        return half if prompt.points and case.name in wrong else case.mask

    report = measured(tmp_path, source, says=says, sees=sees)
    right = 1 - len(wrong) / len(cases)
    english, chinese = report.languages["en"], report.languages["zh"]
    assert english.category.value == pytest.approx(right)
    assert english.definition.value == pytest.approx(right)
    assert english.captions["brief"].colour.value == pytest.approx(right)
    assert english.captions["detailed"].colour.value == 1
    assert english.colour.value == pytest.approx((right + 1) / 2)
    assert english.semantic_iou.value == pytest.approx(right)
    assert chinese.category.value == chinese.definition.value == chinese.colour.value == 1
    assert report.box_iou.value == 1
    ious = [
        (sees(c, Prompt(points=c.clicks)) & c.mask).sum() / c.mask.sum() for c in cases if c.mask is not None
    ]
    assert report.click_iou.value == pytest.approx(np.mean(ious))
    assert report.click_iou.value < 1
    for kind in report.kinds:
        own = [case for case in cases if case.kind == kind.kind]
        share = sum(case.name not in wrong for case in own) / len(own)
        assert kind.category["en"].value == pytest.approx(share)
        assert kind.category["zh"].value == 1


def test_one_look_a_picture_one_batch_an_object(tmp_path: Path, source: Source) -> None:
    oracle = Oracle(tmp_path / "bundle", source)
    done: list[tuple[int, int]] = []
    report = evaluate(oracle, source, langs=BOTH, progress=lambda *at: done.append(at))
    assert oracle.calls == {"look": 4, "segment": 2 * report.cases, "describe": report.cases}
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_is_missing_is_not_a_number(tmp_path: Path, source: Source) -> None:
    report = measured(tmp_path, source)
    similarity = report.languages["en"].similarity
    assert similarity.value is None
    assert "not installed" in similarity.note
    assert report.languages["zh"].similarity.value is None
    meteor = report.languages["en"].captions["brief"].meteor
    assert meteor.value is None
    assert "java" in meteor.note
    document = json.loads(to_json(report))
    assert document["languages"]["en"]["captions"]["brief"]["meteor"]["value"] is None
    text = to_text(report)
    assert "not measured" in text
    assert "there is no java here" in text


def test_cut_off_answers_are_counted(tmp_path: Path, source: Source) -> None:
    report = evaluate(Oracle(tmp_path / "b", source), source, langs=BOTH, max_tokens=3)
    long = sum(len(ask.truth.split()) > 3 for case in cases_of(source) for ask in case.asks)
    assert report.cut_off == long
    assert f"{long} answers were cut off at 3 tokens" in to_text(report)


def test_one_language_and_few_objects(tmp_path: Path) -> None:
    few = world_source(11, 3, langs=["zh"], per_scene=2)
    report = evaluate(Oracle(tmp_path / "b", few), few, langs=["zh"])
    assert report.cases == 6
    assert set(report.languages) == {"zh"}
    whole = {case.name: case.clicks for case in cases_of(world_source(11, 3, langs=["zh"]))}
    assert all(whole[case.name] == case.clicks for case in cases_of(few))  # as without bound


def test_centre_clicks_are_the_deepest_pixels(source: Source) -> None:
    centred = world_source(11, 4, langs=BOTH, click="centre")
    assert centred.about["click"] != source.about["click"]
    elsewhere = 0
    for case, other in zip(cases_of(centred), cases_of(source), strict=True):
        ((x, y, _),) = case.clicks
        assert case.mask is not None
        inside = depth(case.mask)
        assert inside[int(y), int(x)] == inside.max()
        elsewhere += case.clicks != other.clicks
    assert elsewhere  # random ones are not


@pytest.mark.parametrize(("seed", "n", "few"), [(-1, 1, None), (0, 0, None), (0, 1, 0), (0, 2_000_000, None)])
def test_impossible_numbers(seed: int, n: int, few: int | None) -> None:
    with pytest.raises(UsageError, match="give"):
        world_source(seed, n, langs=BOTH, per_scene=few)


def test_scenes_are_held_out_and_clicks_are_on_their_objects(source: Source) -> None:
    assert source.about["split"] == "heldout"
    for case in cases_of(source):
        ((x, y, label),) = case.clicks
        assert case.mask is not None
        assert label == 1
        assert case.mask[int(y), int(x)]
        assert source.colour_of is not None
        for ask in case.asks:
            if ask.task in ("brief", "detailed"):
                assert source.colour_of(ask.truth, ask.lang) == case.colour


# --- the page --------------------------------------------------------------------------------------


class Seen(HTMLParser):
    """Tags, texts and addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(tmp_path: Path, source: Source, **mistakes: Callable[..., object]) -> tuple[str, Seen, Gallery]:
    gallery = Gallery(best=2, worst=2, at_random=3)
    report = evaluate(Oracle(tmp_path / "b", source, **mistakes), source, langs=BOTH, watch=gallery.add)
    document = page(report, gallery)
    seen = Seen()
    seen.feed(document)
    return document, seen, gallery


def test_the_page_holds_everything_it_shows(tmp_path: Path, source: Source) -> None:
    _, seen, _ = page_of(tmp_path, source)
    assert seen.tags.count("article") >= 5
    assert seen.sources
    assert all(s.startswith("data:image/") for s in seen.sources)
    assert "script" not in seen.tags
    assert "random weights" in seen.text  # the stand-in's bundle says so
    assert "click mIoU" in seen.text


def test_texts_are_shown_never_run(tmp_path: Path, source: Source) -> None:
    document, seen, _ = page_of(tmp_path, source, says=lambda case, ask: "<script>alert(1)</script>")
    assert "<script>" not in document
    assert "<script>alert(1)</script>" in seen.text


def test_the_worst_and_the_best_are_that(tmp_path: Path, source: Source) -> None:
    cases = cases_of(source)
    bad = cases[2]
    scores: list[float] = []

    def says(case: Case, ask: Ask) -> str:
        return "nonsense" if case.name == bad.name else ask.truth

    gallery = Gallery(best=2, worst=1, at_random=2)

    def watch(judged: Judged) -> None:
        scores.append(judged.score)
        gallery.add(judged)

    evaluate(Oracle(tmp_path / "b", source, says=says), source, langs=BOTH, watch=watch)
    sections = dict(gallery.sections())
    (worst,) = sections["worst"]
    assert worst.name == bad.name
    assert worst.score == min(scores) < 1
    assert [example.score for example in sections["best"]] == [1, 1]
    assert len({example.kind for example in sections["best"]}) == 2
    assert len(sections["random"]) <= 2


def test_results_are_written_whole(tmp_path: Path, source: Source) -> None:
    gallery = Gallery(best=1, worst=1, at_random=1)
    report = evaluate(Oracle(tmp_path / "b", source), source, langs=BOTH, watch=gallery.add)
    out = tmp_path / "made" / "here"
    prepare_folder(out)
    figures, shown = write_results(out, report, gallery)
    assert json.loads(figures.read_bytes())["cases"] == report.cases
    assert shown.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert sorted(p.name for p in out.iterdir()) == ["index.html", "quality.json"]
    with pytest.raises(UsageError, match="is a file"):
        prepare_folder(figures)
