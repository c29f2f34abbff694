"""Clips and streams of captions, over a fake model that sees white squares."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from fake_video import scene, video_pam
from fakes import Log, spelled
from PIL import Image

from pam_edge.bundle.config import NANO
from pam_edge.core.errors import IntegrityError, UsageError
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.pam import Pam
from pam_edge.video.clip_caption import FRAMES, MAX_HISTORY, Clip, bounded_history, caption, frame_choice
from pam_edge.video.stream import Caption, Event, Plan, Words, follow
from pam_edge.video.tracker import Frame, Tracker

CLICK = {0: {1: Prompt(points=((20, 20, 1),))}}
VISUAL = NANO.region_tokens + 1 + 15 * NANO.frame_tokens


def still(count: int, hidden: range = range(0)) -> Iterator[Image.Image]:
    return (scene() if n in hidden else scene((20, 20), (50, 10 + n % 40)) for n in range(count))


def told(events: list[Event]) -> list[Caption]:
    return [event for event in events if isinstance(event, Caption)]


def clip_of(pam: Pam, count: int, *, length: int | None) -> Clip:
    tracker, clip = Tracker(pam), Clip(pam, length=length)
    for n, picture in enumerate(still(count)):
        clip.add(tracker.step(picture, CLICK[0] if n == 0 else None).objects[0])
    return clip


def positions(log: Log) -> int:
    return sum(p[0] for p in log.prefills)


def test_sixteen_and_more_are_chosen_as_the_original_does(golden: dict[str, np.ndarray]) -> None:
    assert frame_choice(16) == tuple(range(16))
    assert list(frame_choice(20)) == golden["video/selected"].tolist()
    for count in (16, 31, 32, 500):
        assert frame_choice(count) == (0, *np.linspace(1, count - 1, 15, dtype=int).tolist())


@pytest.mark.parametrize("count", range(1, 16))
def test_fewer_are_read_more_than_once_in_the_same_layout(count: int) -> None:
    chosen = frame_choice(count)
    assert len(chosen) == FRAMES and list(chosen) == sorted(chosen)
    assert set(chosen) == set(range(count))


@pytest.mark.parametrize("count", [1, 2, 9, 16, 40])
def test_a_clip_is_the_same_whether_its_length_was_known(tmp_path: Path, count: int) -> None:
    pam, log = video_pam(tmp_path)
    known, unknown = (clip_of(pam, count, length=length) for length in (count, None))
    assert known.chosen == frame_choice(count)
    if count <= 32:
        assert unknown.chosen == known.chosen
        for a, b in zip(known.tokens(), unknown.tokens(), strict=True):
            np.testing.assert_array_equal(a, b)
    else:
        assert set(unknown.chosen) <= set(range(0, 40, 2)) and unknown.chosen[0] == 0
    assert sum(map(len, unknown.tokens())) == VISUAL
    before = positions(log)
    assert known.prefix().decoder.lengths == (len(pam.texts.ids_before) + VISUAL,)
    assert positions(log) == before, "all was read as it came"
    assert unknown.prefix().decoder.lengths == known.prefix().decoder.lengths


def test_a_frame_s_tokens_are_computed_once(tmp_path: Path) -> None:
    pam, log = video_pam(tmp_path)
    clip = clip_of(pam, 40, length=40)
    for _ in range(2):
        for _ in caption(pam, clip):
            pass
    assert log.graphs.count("perceiver") == 1 and log.graphs.count("perceiver_frame") == FRAMES


def test_a_clip_that_ends_early_is_told_by_what_was_kept(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path)
    clip = clip_of(pam, 7, length=32)
    assert set(clip.chosen) == {0, 1, 3, 5} and len(clip.chosen) == FRAMES
    assert clip.prefix().decoder.lengths == (len(pam.texts.ids_before) + VISUAL,)


def test_a_stream_is_told_segment_by_segment_with_history(tmp_path: Path) -> None:
    asked: list[str] = []

    def knows(region: float, after: tuple[int, ...]) -> list[int]:
        asked.append(pam.texts.decode(after))
        return spelled(f"segment {len(set(asked))}")

    pam, log = video_pam(tmp_path, knows)
    plan = Plan("stream", every=8, max_tokens=16)
    events = list(follow(pam, still(20), CLICK, plan))
    captions = told(events)
    assert [(c.segment, c.frames) for c in captions] == [(1, (0, 7)), (2, (8, 15)), (3, (16, 19))]
    assert [c.text for c in captions] == ["segment 1", "segment 2", "segment 3"]
    histories = dict.fromkeys(text.split("Previous caption: ")[1].split("\n")[0] for text in asked)
    assert list(histories) == ["None", "segment 1", "segment 2"]
    words = [event for event in events if isinstance(event, Words)]
    assert "".join(w.text for w in words if w.segment == 2) == "segment 2"
    # Words come between frames, not all at the segment's end.
    kinds = [type(event).__name__ for event in events]
    first, last = kinds.index("Words"), kinds.index("Caption")
    assert kinds[first:last].count("Frame") >= 2
    prompted = [event.index for event in events if isinstance(event, Frame) and event.objects[0].prompted]
    assert prompted == [0, 8, 16], "each segment starts from the last mask of the one before"
    assert all(c.timing_ms["whole"] >= c.timing_ms["first_word"] > 0 for c in captions)
    assert log.graphs.count("image_encoder") + pam.cache["image_hits"] == 20


def test_a_lost_object_is_no_crash_and_its_history_stays(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path)
    events = list(follow(pam, still(40, hidden=range(6, 18)), CLICK, Plan("stream", every=8)))
    states = [(c.segment, c.lost, c.text) for c in told(events)]
    assert states == [(1, False, "ok"), (2, True, ""), (3, False, "ok"), (4, False, "ok"), (5, False, "ok")]
    frames = [event for event in events if isinstance(event, Frame)]
    assert [f.index for f in frames if not f.objects[0].visible] == list(range(6, 18))
    assert [f.index for f in frames if f.objects[0].prompted] == [0, 24, 32], "found again by memory alone"


def test_objects_are_told_of_apart(tmp_path: Path) -> None:
    pam, log = video_pam(tmp_path, lambda region, after: spelled("a"))
    prompts = {0: {1: Prompt(points=((20, 20, 1),))}, 3: {2: Prompt(points=((50, 13, 1),))}}
    events = list(follow(pam, still(16), prompts, Plan("stream", every=8)))
    assert [(c.object, c.segment, c.frames) for c in sorted(told(events), key=lambda c: c.object)] == [
        *((1, 1, (0, 7)), (1, 2, (8, 15))),
        *((2, 1, (3, 7)), (2, 2, (8, 15))),
    ]
    assert log.graphs.count("image_encoder") + pam.cache["image_hits"] == 16


def test_a_clip_is_told_once(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path)
    for length in (20, None):
        events = list(follow(pam, still(20), CLICK, Plan("clip", length=length, lang="zh")))
        (caption_,) = told(events)
        assert caption_.frames == (0, 19) and caption_.text == "ok"
        assert isinstance(events[19], Frame)


def test_a_segment_ends_where_something_changes(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path)
    plan = Plan("stream", every=None)
    by_sight = told(list(follow(pam, still(40, hidden=range(12, 30)), CLICK, plan)))
    assert by_sight[0].frames == (0, 12)
    bright = (Image.eval(p, lambda v: 255 - v) if n >= 10 else p for n, p in enumerate(still(30)))
    assert told(list(follow(pam, bright, CLICK, plan)))[0].frames == (0, 10)
    assert told(list(follow(pam, still(70), CLICK, plan)))[0].frames == (0, 63)


def test_frames_before_the_prompt_are_passed_over(tmp_path: Path) -> None:
    pam, log = video_pam(tmp_path)
    events = list(follow(pam, still(9), {5: CLICK[0]}, Plan()))
    assert [event.index for event in events if isinstance(event, Frame)] == [5, 6, 7, 8]
    assert log.graphs.count("image_encoder") <= 4


def test_a_prompt_after_the_end_is_said(tmp_path: Path) -> None:
    pam, log = video_pam(tmp_path)
    with pytest.raises(UsageError, match=r"on frame 9, but the video has 4"):
        list(follow(pam, still(4), {9: CLICK[0]}, Plan(length=4)))
    assert log.graphs == []
    with pytest.raises(UsageError, match=r"on frame 9, but the video has 4"):
        list(follow(pam, still(4), {0: CLICK[0], 9: CLICK[0]}, Plan()))
    with pytest.raises(UsageError, match="nothing is pointed at"):
        follow(pam, still(4), {}, Plan())


def test_what_was_seen_before_a_source_broke_is_told(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path)

    def broken() -> Iterator[Image.Image]:
        yield from still(5)
        raise IntegrityError("the rest is missing")

    events: list[Event] = []
    with pytest.raises(IntegrityError, match="the rest is missing"):
        for event in follow(pam, broken(), CLICK, Plan("stream")):
            events.append(event)
    assert [c.frames for c in told(events)] == [(0, 4)]


def test_a_stream_has_no_end_of_memory(tmp_path: Path) -> None:
    """What is held after many segments is what was held after a few."""
    import gc
    import tracemalloc

    pam, log = video_pam(tmp_path)
    stream = follow(pam, still(90), CLICK, Plan("stream", every=8, max_tokens=4))
    held = []
    tracemalloc.start()
    for frame in (event for event in stream if isinstance(event, Frame)):
        log.graphs.clear(), log.feeds.clear()
        if frame.index in (39, 87):  # the last of a segment
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[1] - held[0] < 200_000, "48 frames later, no more is held"


def test_history_is_bounded(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path)
    texts, limits = pam.texts, pam.limits
    long = "word " * 500
    told_ = bounded_history(texts, limits, long, lang="en", used=0)
    assert len(told_) <= MAX_HISTORY and long.startswith(told_) and told_.endswith("word")
    assert bounded_history(texts, limits, "short", lang="en", used=0) == "short"
    tight = limits.max_length - len(texts.ids_after("video", history="")) - 20
    assert len(bounded_history(texts, limits, long, lang="zh", used=tight)) < 100
    assert bounded_history(texts, limits, long, lang="en", used=limits.max_length) == ""


def test_plans_that_make_no_sense_are_refused() -> None:
    for wrong in ({"every": 0}, {"max_tokens": 0}):
        with pytest.raises(UsageError, match="at least 1"):
            Plan("stream", **wrong)


def test_stopping_early_stops_the_work(tmp_path: Path) -> None:
    pam, log = video_pam(tmp_path)
    list(islice(follow(pam, still(50), CLICK, Plan("stream")), 3))
    assert log.graphs.count("mask_decoder") == 3
