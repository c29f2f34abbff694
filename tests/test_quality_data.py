"""PAM-format data as cases: what is read, what is refused by its line, and the verb that does it all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.testing
from fakes import fake_bundle
from oracle import Oracle
from PIL import Image

from pam_edge.benchmarks.quality import caption_scores, tally
from pam_edge.benchmarks.quality.annotations import annotated_source
from pam_edge.benchmarks.quality.cases import Case, Source
from pam_edge.benchmarks.quality.pictures import evaluate
from pam_edge.benchmarks.quality.world_cases import world_source
from pam_edge.benchmarks.synthetic.write import write_clips, write_images
from pam_edge.bundle.manifest import write_manifest
from pam_edge.cli import app
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, PamEdgeError, UsageError
from pam_edge.image import coco_rle
from pam_edge.pipeline import pam
from pam_edge.text.tokenization import PAM_PROMPTS

BOTH = ("en", "zh")
TASKS = PAM_PROMPTS.tasks


@pytest.fixture(autouse=True)
def _without_java_and_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_scores.shutil, "which", lambda name: None)

    def absent() -> Path:
        raise EnvironmentProblem("not installed")

    monkeypatch.setattr(tally, "model_folder", absent)


def record(**changes: Any) -> dict[str, Any]:
    mask = np.zeros((60, 80), bool)
    mask[10:30, 20:50] = True
    return {
        "type": "image",
        "image": "a.png",
        "bbox": [20, 10, 30, 20],
        "points": [[30, 15], [70, 50]],
        "labels": [1, 0],
        "conversations": turns(TASKS["en"]["recognize"], "cup"),
        "segmentation": {"size": [60, 80], "counts": coco_rle.encode(mask)},
        **changes,
    }


def turns(*texts: str) -> list[dict[str, str]]:
    texts = ("<image>\n" + texts[0], *texts[1:])
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def data(tmp_path: Path, *lines: dict[str, Any] | str) -> Path:
    if not (tmp_path / "a.png").exists():
        Image.new("RGB", (80, 60), (200, 10, 10)).save(tmp_path / "a.png")
    path = tmp_path / "data.jsonl"
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
    return path


def read(path: Path, root: Path | None = None, langs: tuple[str, ...] = BOTH) -> Source:
    return annotated_source(path, root or path.parent, langs=langs, tasks=TASKS)


def cases_of(source: Source) -> list[Case]:
    return [case for picture in source.pictures() for case in picture.cases]


def test_written_scenes_score_as_the_world_does(tmp_path: Path) -> None:
    path = write_images(tmp_path, 11, 2, "heldout")
    from_file, from_world = read(path), world_source(11, 2, langs=BOTH)
    reports = [evaluate(Oracle(tmp_path / "b", s), s, langs=BOTH) for s in (from_file, from_world)]
    assert reports[0].click_iou == reports[1].click_iou
    assert reports[0].box_iou == reports[1].box_iou
    assert [k.kind for k in reports[0].kinds] == [k.kind for k in reports[1].kinds]
    assert reports[0].languages["zh"].definition == reports[1].languages["zh"].definition
    assert reports[0].languages["en"].colour.value is None  # a file does not say what colour objects have
    for ours, theirs in zip(cases_of(from_file), cases_of(from_world), strict=True):
        assert (ours.clicks, ours.box, ours.asks) == (theirs.clicks, theirs.box, theirs.asks)
        assert np.array_equal(ours.mask, theirs.mask)


def test_a_record_becomes_a_case(tmp_path: Path) -> None:
    questions = turns(
        TASKS["en"]["recognize"], "cup", TASKS["zh"]["brief"], "一个杯子。", "How full?", "Half."
    )
    path = data(tmp_path, record(conversations=questions, note="other people's fields are left alone"), "")
    (case,) = cases_of(read(path))
    assert (case.name, case.kind) == ("line 1", "cup")
    assert case.clicks == ((30, 15, 1), (70, 50, 0))
    assert case.box == (20, 10, 50, 30)
    assert case.mask is not None
    assert case.mask.sum() == 600
    assert [(a.task, a.lang, a.question) for a in case.asks] == [
        ("recognize", "en", None),
        ("brief", "zh", None),
        ("question", "en", "How full?"),
    ]
    (only,) = cases_of(read(path, langs=("zh",)))
    assert [a.lang for a in only.asks] == ["zh"]


def test_free_questions_are_scored_as_captions(tmp_path: Path) -> None:
    lines = [record(conversations=turns("How full?", said)) for said in ("half", "empty")]
    for i, line in enumerate(lines):
        line["points"] = [[30 + i, 15]]
        line["labels"] = None
        line["bbox"] = None
    report = evaluate(Oracle(tmp_path / "b", s := read(data(tmp_path, *lines))), s, langs=["en"])
    assert set(report.languages["en"].captions) == {"question"}
    assert report.languages["en"].category.value is None
    assert [kind.kind for kind in report.kinds] == ["(no category given)"]
    assert report.box_iou.value is None
    assert report.click_iou.value == 1


def test_without_masks_no_iou(tmp_path: Path) -> None:
    line = record()
    del line["segmentation"]
    report = evaluate(Oracle(tmp_path / "b", s := read(data(tmp_path, line))), s, langs=BOTH)
    assert report.click_iou.value is None
    assert "no masks" in report.click_iou.note
    assert report.languages["en"].category.value == 1


def test_boxes_may_pass_the_edge_by_a_rounding(tmp_path: Path) -> None:
    (case,) = cases_of(read(data(tmp_path, record(bbox=[-0.4, 0, 80.6, 60.9]))))
    assert case.box == pytest.approx((0, 0, 80, 60))


def test_videos_are_counted_and_left_out(tmp_path: Path) -> None:
    events, _ = write_clips(tmp_path, 1, 1, languages=("en",))
    video = events.read_text().strip()
    assert read(data(tmp_path, video, record())).about["videos_left_out"] == 1
    with pytest.raises(UsageError, match="1 video records and no image"):
        read(data(tmp_path, video))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{not json", "line 2: JSON is malformed"),
        ('{"type": "image"}', "line 2: .*missing required field"),
        (record(bbox=[1, 2, 3]), r"line 2: .*\$.bbox"),
        (record(bbox=[60, 10, 30, 20]), "line 2: box corner 90,30 is outside the picture of 80x60"),
        (record(bbox=[20, 10, 0, 20]), "line 2: box .* is empty or inverted"),
        (record(points=[[80, 5]], labels=[1]), "line 2: click 80,5 is outside"),
        (record(labels=[1]), "line 2: 2 points have 1 labels"),
        (record(labels=[1, 7]), "line 2: click 70,50 has label 7"),
        (record(points=None, bbox=None), "line 2: neither points nor bbox"),
        (record(image="b.png"), "line 2: no picture b.png under"),
        (record(image="../a.png"), "line 2: picture ../a.png lies outside"),
        (record(image="data.jsonl"), "line 2: data.jsonl is no picture"),
        (record(segmentation={"size": [60, 80], "counts": "01"}), "line 2: the mask's counts"),
        (
            record(segmentation={"size": [2, 2], "counts": coco_rle.encode(np.ones((2, 2), bool))}),
            "mask is 2x2",
        ),
        (record(conversations=turns("Q?", "A", "Q?")), "line 2: a conversation is human and gpt by turns"),
        (record(conversations=turns(" ", "A")), "line 2: a question is empty"),
        ("[" * 100_000, "line 2: "),
        ('{"type": "image", "image": "\ud800"}', "line 2: "),
    ],
)  # fmt: skip
def test_broken_lines_are_named(tmp_path: Path, line: dict[str, Any] | str, says: str) -> None:
    path = data(tmp_path, record())
    raw = (line if isinstance(line, str) else json.dumps(line)).encode("utf-8", errors="surrogatepass")
    path.write_bytes(path.read_bytes() + raw + b"\n")
    with pytest.raises(IntegrityError, match=says):
        read(path)


def test_many_faults_are_counted(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"line 5.*\n  and 4 more") as caught:
        read(data(tmp_path, *[record(points=None, bbox=None)] * 9))
    assert "line 6" not in str(caught.value)


def test_nothing_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no record"):
        read(data(tmp_path, ""))
    with pytest.raises(UsageError, match="asks nothing in zh"):
        read(data(tmp_path, record()), langs=("zh",))
    with pytest.raises(UsageError, match="no file"):
        read(tmp_path / "absent.jsonl")
    with pytest.raises(UsageError, match="no folder"):
        read(data(tmp_path, record()), tmp_path / "absent")


# --- the verb --------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *words: str, source: Source | None = None) -> Any:
    folder = tmp_path / "bundle"
    write_manifest(folder, fake_bundle(folder).manifest)
    monkeypatch.setattr("pam_edge.bundle.bundle.Bundle.open", lambda place, check: fake_bundle(Path(place)))
    if source is not None:
        monkeypatch.setattr(pam, "load", lambda bundle, threads: Oracle(folder, source))
    return typer.testing.CliRunner().invoke(app.app, ["eval", str(folder), *words])


def test_the_verb_writes_figures_and_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "out"
    scenes = world_source(7, 2, langs=BOTH, click="centre")
    done = run(monkeypatch, tmp_path, "--world", "7", "--n", "2", "--out", str(out), "--json", source=scenes)
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    assert document["data"]["seed"] == 7 and document["data"]["click"] == "deepest pixel of the mask"
    assert document["click_iou"]["value"] == 1
    assert json.loads((out / "quality.json").read_bytes())["cases"] == document["cases"]
    assert (out / "index.html").stat().st_size > 10_000
    assert "page:" in done.stderr
    text = run(
        monkeypatch,
        tmp_path,
        "--world",
        "7",
        "--n",
        "2",
        "--lang",
        "zh",
        source=world_source(7, 2, langs=["zh"], click="centre"),
    )
    assert "click mIoU" in text.stdout
    assert "brief: METEOR" in text.stdout
    assert "category en" not in text.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give --world SEED"),
        (["--world", "1", "--data", "x"], "one of them"),
        (["--world", "1", "--n", "0"], "0 scenes"),
        (["--world", "-1"], "world seed -1"),
        (["--world", "1", "--image-root", "."], "--image-root belongs to --data"),
        (["--world", "1", "--click", "edge"], "give centre or random"),
        (["--data", "x.jsonl", "--click", "centre"], "--click belong to --world"),
        (["--data", "absent.jsonl"], "no file absent.jsonl"),
        (["--data", "x", "--n", "3"], "belong to --world"),
        (["--world", "1", "--lang", "fr"], "give en, zh or en,zh"),
        (["--world", "1", "--lang", "en,en"], "give en, zh or en,zh"),
        (["--world", "1", "--out", __file__], "is a file"),
    ],
)  # fmt: skip
def test_wrong_words_fail_before_anything_slow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], says: str
) -> None:
    done = run(monkeypatch, tmp_path, *words)
    assert isinstance(done.exception, UsageError)
    assert done.exception.exit_code == 2
    assert says in str(done.exception)


def test_a_full_or_closed_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(self: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    from pam_edge.benchmarks.quality.evaluation import prepare_folder

    with pytest.raises(PamEdgeError, match="free some space") as caught:
        prepare_folder(tmp_path)
    assert caught.value.exit_code == 7
