"""The public Python API: what a user types first works, and what makes no sense says what to type."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fakes import fake_bundle, spelled
from PIL import Image
from test_pam import answers_by_task

import pam_edge
from pam_edge import Prompt, Question, Result, UsageError
from pam_edge.api.model import Model
from pam_edge.api.result import Results
from pam_edge.core.errors import EnvironmentProblem
from pam_edge.image import coco_rle
from pam_edge.pipeline.pam import Engine

PHOTO = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
BOXES = [(10, 10, 30, 30), (40, 20, 70, 50), (5, 30, 20, 55)]


def fake_model(folder: Path, knows: Any = answers_by_task, **options: Any) -> tuple[Model, Any]:
    from fakes import FakeDecoder, FakeSession, Log

    log = Log()

    def decoder() -> FakeDecoder:
        log.opened += 1
        return FakeDecoder(knows, log)

    return Model(fake_bundle(folder, **options), Engine(lambda graph: FakeSession(graph, log), decoder)), log


def by_region(region: float, after: tuple[int, ...]) -> list[int]:
    """A different answer for each region, of a different length."""
    return spelled(f"{region:.4f}"[: 3 + int(region * 10) % 5] + "!")


# --- a call ---------------------------------------------------------------------------------------


def test_a_call_is_look_segment_describe(tmp_path: Path) -> None:
    pam, log = fake_model(tmp_path)
    result = pam(PHOTO, point=(40, 30), tasks=["recognize", "brief"])
    region = pam.segment(pam.look(PHOTO), Prompt(points=((40, 30),)))
    description = pam.describe(region, ["recognize", "brief"])
    assert len(list(description)) > 2 and result.answers == description.answers
    assert np.array_equal(result.mask, region.mask) and result.box == region.box
    assert (result.score, result.prompt.points) == (0.75, ((40, 30, 1),))
    assert result.text == "\n".join(answer.text for answer in result.answers)
    assert log.graphs.count("image_encoder") == 1 and isinstance(pam, pam_edge.Pam)


@pytest.mark.parametrize(
    ("how", "prompt"),
    [
        ({"point": (3, 4)}, Prompt(points=((3, 4),))),
        ({"point": (3, 4, 0), "box": [0, 0, 9, 9]}, Prompt(points=((3, 4, 0),), box=(0, 0, 9, 9))),
        ({"points": [(3, 4, 1), (5, 6)]}, Prompt(points=((3, 4), (5, 6)))),
        ({"point": (1, 2), "points": np.array([[3, 4], [5, 6]])}, Prompt(points=((1, 2), (3, 4), (5, 6)))),
        ({"box": np.array([1, 2, 3, 4], np.int64)}, Prompt(box=(1, 2, 3, 4))),
        ({"prompt": Prompt(box=(1, 2, 3, 4))}, Prompt(box=(1, 2, 3, 4))),
    ],
)
def test_prompts_as_they_are_written(tmp_path: Path, how: dict[str, Any], prompt: Prompt) -> None:
    pam, _ = fake_model(tmp_path)
    found = pam(PHOTO, tasks=[], **how).prompt
    assert (found.points, found.box) == (prompt.points, prompt.box)


def test_tasks_and_questions_in_order_and_a_brief_caption_by_default(tmp_path: Path) -> None:
    pam, log = fake_model(tmp_path)

    def asked(**how: Any) -> list[str]:
        return [answer.task for answer in pam(PHOTO, point=(4, 4), **how).answers]

    assert asked() == ["brief"]
    assert asked(task="explain") == ["explain"]
    assert asked(task="explain", question="why?") == ["explain", "question"]
    assert asked(question=["why?", Question("how?")]) == ["question", "question"]
    assert asked(tasks=["brief", Question("how?")], lang="zh") == ["brief", "question"]
    steps = len(log.steps)
    assert asked(tasks=[]) == [] and len(log.steps) == steps and pam(PHOTO, point=(4, 4), tasks=[]).text == ""


def test_boxes_are_one_batch_with_the_same_answers(tmp_path: Path) -> None:
    pam, log = fake_model(tmp_path, by_region)
    alone = [pam(PHOTO, box=box) for box in BOXES]
    log.steps.clear()
    together = pam(PHOTO, boxes=BOXES)
    assert isinstance(together, Results) and max(log.steps) == 3
    assert len(log.steps) == max(len(r.answers[0].token_ids) for r in alone)
    for one, other in zip(alone, together, strict=True):
        assert one.to_dict() == other.to_dict()
    assert len({r.text for r in together}) == 3  # no row got another's words
    several = pam(PHOTO, boxes=np.array(BOXES), tasks=["brief", "explain"], question="why?")
    assert [len(r.answers) for r in several] == [3, 3, 3]
    assert pam(PHOTO, boxes=[]) == [] and len(pam(PHOTO, boxes=[BOXES[0]] * 20)) == 20
    drawn = [pam(PHOTO, boxes=BOXES, temperature=5.0, seed=s, max_tokens=4) for s in (1, 1, 2)]
    assert [r.text for r in drawn[0]] == [r.text for r in drawn[1]] != [r.text for r in drawn[2]]
    assert drawn[0][1].text == pam(PHOTO, box=BOXES[1], temperature=5.0, seed=1, max_tokens=4).text


def test_nano_answers_the_same_for_boxes_as_for_each_box() -> None:
    from pam_edge.benchmarks import synthetic
    from pam_edge.image.masks import bounds

    scene = synthetic.scene(339, split="heldout")
    boxes = [bounds(obj.mask) for obj in scene.objects]
    with pam_edge.load("nano") as pam:
        together = pam(scene.image, boxes=boxes)
        assert [r.to_dict() for r in together] == [pam(scene.image, box=box).to_dict() for box in boxes]


def test_a_stream_has_its_mask_before_any_text(tmp_path: Path) -> None:
    pam, log = fake_model(tmp_path)
    with pam.stream(PHOTO, box=BOXES[0], tasks=["brief", "detailed"]) as stream:
        assert stream.region.mask.any() and log.opened == 0 and stream.result.answers == ()
        pieces = list(stream)
    assert {piece.task for piece in pieces} == {"brief", "detailed"}
    whole = pam(PHOTO, box=BOXES[0], tasks=["brief", "detailed"])
    assert stream.result.to_dict() == whole.to_dict()
    assert set(stream.timing_ms) >= {"encode", "mask", "prefill", "decode"}


def test_asking_goes_on_from_a_result(tmp_path: Path) -> None:
    pam, log = fake_model(tmp_path)
    result = pam(PHOTO, point=(40, 30))
    masks, prefixes = log.graphs.count("mask_decoder"), pam.cache["prefix_misses"]
    assert str(pam.ask(result, "what is it?")) == pam.ask(result.region, "what is it?").text == "WHAT IS IT?"
    assert [a.text for a in pam.ask(result, ["one", "two"])] == ["ONE", "TWO"]
    assert (log.graphs.count("mask_decoder"), pam.cache["prefix_misses"]) == (masks, prefixes)
    assert pam.ask(PHOTO, "what?", point=(40, 30)).text == "WHAT?"
    told = [pam.ask(result, "hm", temperature=9.0, top_p=0.9, seed=s, max_tokens=6).text for s in (1, 1, 2)]
    assert told[0] == told[1] != told[2]
    region, answers = pam.ask(PHOTO, Prompt(points=((40, 30),)), ["brief"])  # as of `Pam`
    assert answers == result.answers and region.key == result.region.key


def test_closing_lets_go(tmp_path: Path) -> None:
    pam, _ = fake_model(tmp_path)
    with pam as same:
        assert same is pam and pam(PHOTO, point=(4, 4)).text
    pam.close()
    for use in (lambda: pam(PHOTO, point=(4, 4)), lambda: pam.look(PHOTO)):
        with pytest.raises(UsageError, match=r"closed: load it again"):
            use()


# --- results --------------------------------------------------------------------------------------


def test_a_result_is_shown_saved_and_handed_on(tmp_path: Path) -> None:
    pam, _ = fake_model(tmp_path)
    result, results = pam(PHOTO, point=(40, 30), task="detailed"), pam(PHOTO, boxes=BOXES)
    assert len(repr(result)) < 140 and repr(result).startswith("Result(box=(") and len(repr(pam)) < 140
    assert len(repr(result.region)) < 400
    assert result.plot().mode == "RGB" and results.plot().size[0] >= 840
    record = result.to_dict()
    assert json.loads(json.dumps(record)) == record == pam(PHOTO, point=(40, 30), task="detailed").to_dict()
    assert list(record) == ["schema", "size", "mask", "score", "object_score", "answers", "box"]
    assert np.array_equal(coco_rle.decode(record["mask"]["counts"], (60, 80)), result.mask)
    assert len(json.loads(json.dumps(results.to_dict()))["results"]) == 3
    for name in ("a.png", "a.JPG", "a.webp"):
        assert Image.open(result.save(tmp_path / name)).size == result.plot().size
    assert json.loads(result.save(str(tmp_path / "a.json")).read_text()) == record
    mask = np.asarray(Image.open(result.save_mask(tmp_path / "m.png")))
    assert np.array_equal(mask == 255, result.mask) and set(np.unique(mask)) == {0, 255}
    again = pam(PHOTO, mask=tmp_path / "m.png")  # what was written is what is read
    assert np.array_equal(again.prompt.mask, result.mask)
    for save, name in ((result.save, "a.gif"), (result.save, "a"), (result.save_mask, "m.jpg")):
        with pytest.raises(UsageError, match=r"\.png"):
            save(tmp_path / name)
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        result.save(tmp_path / "none" / "a.png")


def test_a_seen_keeps_no_picture(tmp_path: Path) -> None:
    pam, _ = fake_model(tmp_path)
    result = pam(pam.look(PHOTO), point=(40, 30))
    with pytest.raises(UsageError, match=r"plot\(image\)"):
        result.plot()
    assert result.plot(PHOTO).tobytes() == pam(PHOTO, point=(40, 30)).plot().tobytes()


def test_detections_of_supervision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pam, _ = fake_model(tmp_path)
    results = pam(PHOTO, boxes=BOXES)
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(EnvironmentProblem, match="pip install supervision"):
        results.to_detections()

    class Detections:  # the constructor of supervision 0.2x, as far as it is used
        def __init__(self, **fields: Any) -> None:
            self.__dict__.update(fields)

        @classmethod
        def empty(cls) -> Detections:
            return cls(xyxy=np.empty((0, 4)))

    stand_in = ModuleType("supervision")
    stand_in.Detections = Detections  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", stand_in)
    found = results.to_detections()
    assert found.xyxy.shape == (3, 4) and found.mask.shape == (3, 60, 80) and found.mask.dtype == bool
    assert found.confidence.tolist() == [0.75] * 3 and found.data["class_name"].tolist() == [
        r.text for r in results
    ]
    assert found.class_id.tolist() == [0, 0, 0]  # the same words thrice
    assert Results().to_detections().xyxy.shape == (0, 4)


# --- threads, asyncio -----------------------------------------------------------------------------


def test_threads_get_their_own_answers(tmp_path: Path) -> None:
    pam, _ = fake_model(tmp_path, by_region)
    points = [(5 + 3 * i, 10 + 2 * i) for i in range(16)]
    expected = [pam(PHOTO, point=p).to_dict() for p in points]
    barrier = threading.Barrier(8)

    def work(k: int) -> list[dict[str, Any]]:
        barrier.wait()
        found = []
        for point in points[k::8]:
            stream = pam.stream(PHOTO, point=point)
            found.append(stream.finish().to_dict())
        return found

    with ThreadPoolExecutor(8) as pool:
        for k, found in enumerate(pool.map(work, range(8))):
            assert found == expected[k::8]


def test_only_one_thread_is_in_the_engine(tmp_path: Path) -> None:
    pam, _ = fake_model(tmp_path)
    inside, overlaps = threading.Lock(), []
    pam.look(PHOTO)
    session = pam._graphs.session("image_encoder")

    class Watched:
        def run(self, feeds: Any) -> Any:
            if not inside.acquire(blocking=False):
                overlaps.append(1)
                return session.run(feeds)
            try:
                threading.Event().wait(0.01)
                return session.run(feeds)
            finally:
                inside.release()

    watched: Future[Any] = Future()
    watched.set_result(Watched())
    pam._graphs._found["image_encoder"] = watched
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda v: pam.look(np.full((8, 8, 3), v, np.uint8)), range(0, 240, 20)))
    assert not overlaps


def test_nano_from_several_threads() -> None:
    from pam_edge.benchmarks import synthetic

    scene = synthetic.scene(339, split="heldout")
    points = [synthetic.centre_click(obj.mask) for obj in scene.objects[:4]]
    with pam_edge.load("nano") as pam:
        expected = [pam(scene.image, point=point).to_dict() for point in points]
    with pam_edge.load("nano") as pam, ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda p: pam(scene.image, point=p).to_dict(), points)) == expected


def test_asyncio_leaves_the_loop_free(tmp_path: Path) -> None:
    model, _ = fake_model(tmp_path)
    expected = [model(PHOTO, point=(x, 30)).to_dict() for x in (20, 40)]

    async def work() -> None:
        async with pam_edge.AsyncModel(model) as pam:
            both = await asyncio.gather(*(pam(PHOTO, point=(x, 30)) for x in (20, 40)))
            assert [r.to_dict() for r in both] == expected
            stream = pam.stream(PHOTO, point=(20, 30))
            with pytest.raises(UsageError, match="first"):
                _ = stream.result
            assert (await stream.region()).box == both[0].box
            text = "".join([piece.text async for piece in stream])
            assert text == both[0].text and stream.result.to_dict() == expected[0]
            region = await pam.segment(await pam.look(PHOTO), point=(20, 30))
            assert (await pam.ask(region, "why?")).text == "WHY?"
            with pytest.raises(UsageError, match="nothing is pointed at"):
                await pam(PHOTO)
            async with pam.stream(PHOTO, point=(20, 30)) as stopped:
                await stopped.__anext__()
            assert [piece async for piece in stopped] == []
            free = asyncio.Event()

            class Slow:
                def read(self, size: int) -> bytes:
                    asyncio.run_coroutine_threadsafe(_set(free), loop).result(10)  # needs the loop
                    return b"no picture"

            loop = asyncio.get_running_loop()
            with pytest.raises(pam_edge.IntegrityError):
                await pam(Slow(), point=(1, 1))
            assert free.is_set()
        with pytest.raises(UsageError, match="closed"):
            await pam.look(PHOTO)

    asyncio.run(work())


async def _set(event: asyncio.Event) -> None:
    event.set()


# --- what makes no sense --------------------------------------------------------------------------

NAN = float("nan")
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, r"nothing is pointed at: give point=\(x, y\), points=.*box=.*mask="),
    ({"point": (80, 5)}, "80,5 is outside the picture of 80x60"),
    ({"point": (NAN, 5)}, "finite"),
    ({"point": "4,5"}, r"point='4,5': give point=\(x, y\)"),
    ({"point": (1, 2, 3, 4)}, "for a box give box="),
    ({"point": [(1, 2)]}, r"for several give points="),
    ({"point": ("a", "b")}, "a number is wanted, got 'a'"),
    ({"point": 5}, r"give point=\(x, y\)"),
    ({"point": {1: 2}}, "give point="),
    ({"point": (1, 2, 5)}, "label 5"),
    ({"points": (62, 40)}, r"for a single one give point=\(x, y\)"),
    ({"points": []}, "holds no click"),
    ({"points": [(1, 2), 3]}, "points=3"),
    ({"box": (1, 2, 3)}, "left, top, right, bottom"),
    ({"box": [(1, 2, 3, 4)]}, "for several give boxes="),
    ({"box": (9, 9, 1, 1)}, "empty or inverted"),
    ({"box": (0, 0, 81, 60)}, "outside"),
    ({"boxes": (1, 2, 3, 4)}, r"for a single one give box="),
    ({"boxes": BOXES, "box": BOXES[0]}, "give boxes= or box=, not both"),
    ({"boxes": BOXES, "point": (1, 2)}, "give boxes= or point=, not both"),
    ({"boxes": 7}, "give boxes="),
    ({"mask": np.ones((3, 4), bool)}, "mask is 4x3 pixels, the picture 80x60"),
    ({"mask": np.zeros((60, 80), bool)}, "marks no pixel"),
    ({"mask": np.full((60, 80), NAN)}, "NaN"),
    ({"mask": 5}, "int is no picture"),
    ({"prompt": (1, 2)}, r"pam_edge.Prompt"),
    ({"prompt": Prompt(points=((1, 2),)), "box": BOXES[0]}, "not both"),
    ({"point": (1, 2), "task": "name it"}, "known: recognize, explain, brief, detailed"),
    ({"point": (1, 2), "task": "video"}, "for videos only"),
    ({"point": (1, 2), "task": ["brief"]}, r"for several give tasks=\['brief'\]"),
    ({"point": (1, 2), "task": 5}, "a task is a name"),
    ({"point": (1, 2), "task": "brief", "tasks": ["brief"]}, "not both"),
    ({"point": (1, 2), "tasks": 5}, r'give tasks=\["brief", "detailed"\]'),
    ({"point": (1, 2), "question": 5}, "question="),
    ({"point": (1, 2), "question": " "}, "empty"),
    ({"point": (1, 2), "lang": "de"}, 'lang="en" or lang="zh"'),
    ({"point": (1, 2), "lang": None}, 'lang="en"'),
    ({"point": (1, 2), "lang": ["en"]}, 'lang="en"'),
    ({"point": (1, 2), "temperature": "hot"}, "temperature: a number"),
    ({"point": (1, 2), "temperature": -1}, "temperature"),
    ({"point": (1, 2), "temperature": NAN}, "temperature"),
    ({"point": (1, 2), "top_p": 0}, "top-p"),
    ({"point": (1, 2), "seed": 1.5}, "seed: a whole number"),
    ({"point": (1, 2), "max_tokens": 0}, "at least 1"),
    ({"point": (1, 2), "max_tokens": "9"}, "max_tokens: a whole number"),
]


@pytest.mark.parametrize(("how", "says"), WRONG, ids=[says[:40] for _, says in WRONG])
def test_wrong_calls_say_the_right_one(tmp_path: Path, how: dict[str, Any], says: str) -> None:
    pam, log = fake_model(tmp_path)
    with pytest.raises(UsageError, match=says):
        pam(PHOTO, **how)
    assert log.graphs == []  # nothing slow ran
    if "boxes" not in how:
        with pytest.raises(UsageError, match=says):
            pam.stream(PHOTO, **how)


def test_wrong_uses_of_the_steps(tmp_path: Path) -> None:
    pam, _ = fake_model(tmp_path)
    seen = pam.look(PHOTO)
    region = pam.segment(seen, point=(4, 4))
    wrong: list[tuple[Any, str]] = [
        (lambda: pam.segment(PHOTO, point=(4, 4)), "look"),
        (lambda: pam.segment(seen), "nothing is pointed at"),
        (lambda: pam.segment(seen, point=(4, 4), refine=seen), "Region"),
        (lambda: pam.describe(seen), "no region"),
        (lambda: pam.describe(region, "name it"), "known: recognize"),
        (lambda: pam.describe(region, lang="de"), "lang="),
        (lambda: pam.describe(region, sampling=0.5), "Sampling"),
        (lambda: pam.ask(region), "nothing is asked"),
        (lambda: pam.ask(region, []), "no question"),
        (lambda: pam.ask(region, "why?", point=(1, 2)), "leave out point="),
        (lambda: pam.ask(PHOTO, "why?"), "nothing is pointed at"),
        (lambda: pam(None, point=(1, 2)), "cv2.imread"),
        (lambda: pam_edge.load(5), "int is no bundle"),
        (lambda: pam_edge.load("nano", threads=-1), "threads=-1"),
        (lambda: pam_edge.load("none"), "no bundle"),
        (lambda: Results().plot(), "no result"),
    ]
    for call, says in wrong:
        with pytest.raises(UsageError, match=says):
            call()
    assert len(list(pam.describe(region, "brief"))) > 1


# --- the face itself ------------------------------------------------------------------------------


def test_everything_public_is_there_and_documented() -> None:
    for name in pam_edge.__all__:
        value = getattr(pam_edge, name)
        assert name in dir(pam_edge) and (isinstance(value, str) or inspect.getdoc(value)), name
    for method in ("__call__", "stream", "ask", "track", "segment", "describe"):
        text = inspect.getdoc(getattr(Model, method)) or ""
        assert "Args" in text and "Raises:" in text, method
    assert isinstance(pam_edge.load("nano"), Model) and pam_edge.Result is Result


def test_threads_that_look_at_one_picture_encode_it_once(tmp_path: Path) -> None:
    pam, log = fake_model(tmp_path)
    pam.look(PHOTO[::-1].copy())
    session = pam._graphs.session("image_encoder")
    run = session.run
    session.run = lambda feeds: (time.sleep(0.02), run(feeds))[1]  # type: ignore[method-assign]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: pam.look(PHOTO), range(6)))
    assert log.graphs.count("image_encoder") == 2 and pam.cache["image_misses"] == 2


def test_the_command_line_counts_every_millisecond_once(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from pam_edge.cli.app import app

    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    said = CliRunner().invoke(app, ["run", "nano", str(tmp_path / "a.png"), "--point", "40,30", "--json"])
    timing = json.loads(said.stdout)["timing_ms"]
    for name in ("load", "encode", "mask"):  # as for people
        assert f"{name} {timing[name]:.0f} ms" in said.stderr
