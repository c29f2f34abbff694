"""Clips of the rendered world: exact masks, events that happen as told, captions that continue each other."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pam_edge.benchmarks.synthetic import (
    LANGUAGES,
    Combo,
    clip,
    event_caption,
    history,
    named_event,
    named_kind,
    segment_caption,
    told_events,
)
from pam_edge.benchmarks.synthetic.clips import Clip, poses
from pam_edge.benchmarks.synthetic.combos import is_held_out
from pam_edge.benchmarks.synthetic.draw import Look, Pose, Sprite, draw
from pam_edge.benchmarks.synthetic.moves import EVENTS, reach

_COUNT = 16


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [clip(seed) for seed in range(_COUNT)]


def test_the_same_seed_gives_the_same_clip(clips: list[Clip]) -> None:
    again = clip(3)
    assert np.array_equal(again.frames, clips[3].frames)
    assert np.array_equal(again.masks, clips[3].masks)
    assert again.segments == clips[3].segments


def test_segments_tile_the_clip_and_begin_with_the_target_in_sight(clips: list[Clip]) -> None:
    for c in clips:
        assert c.frames.shape[:3] == c.masks.shape
        assert len(c.segments) in (3, 4)
        edges = [s.start for s in c.segments] + [len(c.frames)]
        assert edges == [0] + [s.stop for s in c.segments]
        assert all(s.stop - s.start == 16 for s in c.segments)
        assert all(c.box(s.start) is not None for s in c.segments)


def test_what_is_told_happens(clips: list[Clip]) -> None:
    seen = set()
    for c in clips:
        for s in c.segments:
            seen.add(s.event)
            first, last = c.box(s.start), c.box(s.stop - 1)
            area = c.masks[s.start : s.stop].sum(axis=(1, 2))
            assert first is not None
            if s.event == "leave":
                assert last is None and s is c.segments[-1]
                continue
            assert last is not None
            dx = (last.x + last.w / 2) - (first.x + first.w / 2)
            dy = (last.y + last.h / 2) - (first.y + first.h / 2)
            match s.event:
                case "move left" | "move right":
                    assert (dx > 0) == (s.event == "move right") and abs(dx) > 0.2 * c.frames.shape[2]
                case "move up" | "move down":
                    assert (dy > 0) == (s.event == "move down") and abs(dy) > 0.2 * c.frames.shape[1]
                case "grow":
                    assert area[-1] > 1.9 * area[0]
                case "shrink":
                    assert area[-1] < 0.6 * area[0]
                case "leave and return":
                    assert area.min() == 0 and area[-1] == area[0]
                case "covered":
                    assert s.by is not None and area.min() < 0.4 * area[0] and area[-1] == area[0]
                case "stay":
                    assert (c.masks[s.start : s.stop] == c.masks[s.start]).all()
                case _:
                    assert s.event.startswith("turn") and (c.masks[s.start] != c.masks[s.stop - 1]).any()
    assert len(seen) >= len(EVENTS) - 3


def test_poses_are_those_that_were_drawn(clips: list[Clip]) -> None:
    compared = 0
    for seed, c in enumerate(clips[:6]):
        field, found = poses(seed)
        assert len(found) == len(c.frames) and c.frames.shape[1:3] == (field.height, field.width)
        covered = {k for s in c.segments if s.event == "covered" for k in range(s.start, s.stop)}
        for k, pose in enumerate(found):
            box, edge = c.box(k), reach(pose.size)
            whole = edge <= pose.x <= field.width - edge and edge <= pose.y <= field.height - edge
            if box is not None and whole and k not in covered:
                assert abs(box.x + box.w / 2 - pose.x) < 0.3 * pose.size
                assert abs(box.y + box.h / 2 - pose.y) < 0.3 * pose.size
                assert 0.4 * pose.size < max(box.w, box.h) < 1.3 * pose.size
                compared += 1
    assert compared > 50


def test_turning_clockwise_is_clockwise() -> None:
    straight, turned = (_alone(draw(Look("key", "red", "plain"), Pose(64, 64, 90, a))) for a in (0, 40))
    # PIL turns counterclockwise for positive angles
    assert _overlap(straight.rotate(-40), turned) > 0.9 > _overlap(straight.rotate(40), turned)


def test_captions_name_the_target_and_continue_the_one_before(clips: list[Clip]) -> None:
    for c in clips:
        for language in LANGUAGES:
            captions = [segment_caption(c, k, language) for k in range(len(c.segments))]
            assert history(c, 0, language) is None
            assert [history(c, k, language) for k in range(1, len(captions))] == captions[:-1]
            assert all(text.startswith("After " if language == "en" else "在") for text in captions[1:])
            whole = event_caption(c, language)
            assert "{" not in whole + "".join(captions)
            assert whole.count(", then " if language == "en" else "，") == len(captions) - 1
            assert len(set(captions)) == len(captions)


def test_events_are_read_back_from_captions(clips: list[Clip]) -> None:
    for c in clips:
        events = tuple(s.event for s in c.segments)
        for language in LANGUAGES:
            captions = [segment_caption(c, k, language) for k in range(len(events))]
            assert tuple(named_event(text, language) for text in captions) == events
            assert told_events(event_caption(c, language), language) == events
            assert {named_kind(text, language) for text in captions} == {c.target.kind}
    assert named_event("The umbrella.") is None and told_events("一把雨伞。", "zh") == (None,)


def test_held_out_clips_show_only_held_out_targets(clips: list[Clip]) -> None:
    assert not any(is_held_out(c.target) for c in clips)
    for seed in range(4):
        held = clip(seed, "heldout")
        assert is_held_out(held.target)
        assert all(is_held_out(s.by) for s in held.segments if isinstance(s.by, Combo))


def test_every_object_of_a_clip_has_its_pixels_and_its_name(clips: list[Clip]) -> None:
    for c in clips:
        number = len(c.objects) - 1  # what may cover the target comes last, the target before it
        assert c.objects[number - 1] == c.target
        assert ((c.owners == number) == c.masks).all()
        assert c.owners.max() <= len(c.objects)
        covered = [s for s in c.segments if s.event == "covered"]
        assert bool((c.owners == number + 1).any()) == bool(covered)
        assert all(s.by == c.objects[-1] for s in covered)


def _alone(sprite: Sprite) -> Image.Image:
    picture = Image.new("L", (128, 128), 0)
    picture.paste(sprite.coverage, (sprite.left, sprite.top))
    return picture


def _overlap(a: Image.Image, b: Image.Image) -> float:
    x, y = np.asarray(a) > 127, np.asarray(b) > 127
    return float((x & y).sum() / (x | y).sum())
