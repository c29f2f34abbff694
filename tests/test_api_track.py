"""Tracking through the public API: sources of every kind, prompts as they are written, captions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pam_edge
from pam_edge import Caption, Frame, Prompt, UsageError, Words
from pam_edge.api.model import Model
from pam_edge.benchmarks import synthetic
from pam_edge.image.masks import bounds

CLIP = synthetic.clip(synthetic.nth_seed(7, 0), split="heldout", segment_frames=4)
FRAMES = CLIP.frames[:4]
BOX = bounds(CLIP.masks[0])


@pytest.fixture(scope="module")
def pam() -> Iterator[Model]:
    with pam_edge.load("nano") as model:
        yield model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("frames")
    for i, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(place / f"{i}.png")
    return place


@pytest.fixture(scope="module")
def masks(pam: Model) -> list[np.ndarray]:
    tracker = pam_edge.Tracker(pam, length=len(FRAMES))
    first = tracker.step(FRAMES[0], {1: Prompt(box=BOX)})
    return [f.objects[0].mask for f in (first, *map(tracker.step, FRAMES[1:]))]


SOURCES: dict[str, Any] = {
    "folder": lambda folder: folder,
    "str": str,
    "list": lambda folder: [folder / "0.png", FRAMES[1], Image.fromarray(FRAMES[2]), FRAMES[3] / 255],
    "array": lambda folder: FRAMES,
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources(pam: Model, folder: Path, masks: list[np.ndarray], name: str) -> None:
    with pam.track(SOURCES[name](folder), box=BOX) as events:
        assert events.count == 4 and "frames=4" in repr(events)
        found = list(events)
    assert all(isinstance(event, Frame) for event in found)
    assert all(np.array_equal(f.objects[0].mask, m) for f, m in zip(found, masks, strict=True))


def test_a_generator_is_read_as_it_goes_and_its_length_is_not_known(pam: Model) -> None:
    read: list[int] = []

    def camera() -> Iterator[np.ndarray]:
        for i, frame in enumerate(FRAMES):
            read.append(i)
            yield frame

    events = pam.track(camera(), box=BOX)
    assert events.count is None and read == []
    assert next(events).index == 0 and read == [0]
    events.close()
    assert list(events) == []


@pytest.mark.parametrize("caption", ["stream", "clip"])
def test_captions(pam: Model, folder: Path, caption: Any) -> None:
    events = list(pam.track(folder, box=BOX, caption=caption, every=2, max_tokens=8))
    told = [event for event in events if isinstance(event, Caption)]
    assert [t.frames for t in told] == ([(0, 1), (2, 3)] if caption == "stream" else [(0, 3)])
    words = "".join(e.text for e in events if isinstance(e, Words))
    assert words == "".join(t.text for t in told) and words


def test_several_objects_later_frames_and_corrections(pam: Model) -> None:
    boxes = [BOX, (5, 5, 40, 40)]
    last = list(pam.track(FRAMES, boxes=boxes, frame=1))
    assert [f.index for f in last] == [1, 2, 3] and [len(f.objects) for f in last] == [2, 2, 2]
    prompts = {0: {1: Prompt(box=BOX)}, 2: {4: Prompt(points=((9, 9),))}}
    assert [[t.object for t in f.objects] for f in pam.track(FRAMES, prompts=prompts)] == [
        [1],
        [1],
        [1, 4],
        [1, 4],
    ]


def test_backwards(pam: Model, folder: Path) -> None:
    assert [f.index for f in pam.track(folder, box=BOX, frame=3, backwards=True)] == [3, 2, 1, 0]


def test_a_file(pam: Model, tmp_path: Path) -> None:
    pytest.importorskip("av")
    _, streams = synthetic.write_clips(tmp_path, 7, 1, "heldout", video=True)
    assert streams.exists()
    (video,) = (tmp_path / "clips").glob("*.mp4")
    for source in (video, video.open("rb")):
        with pam.track(source, box=BOX) as events:
            assert next(events).index == 0 and events.rate == 8


def test_asyncio(masks: list[np.ndarray]) -> None:
    async def work() -> None:
        async with pam_edge.AsyncModel("nano") as pam:
            found = [event async for event in pam.track(FRAMES, box=BOX)]
        assert all(np.array_equal(f.objects[0].mask, m) for f, m in zip(found, masks, strict=True))

    asyncio.run(work())


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({}, "nothing is pointed at"),
        ({"box": BOX, "caption": "brief"}, 'caption="stream", caption="clip", or None'),
        ({"box": BOX, "every": 0}, "every=0"),
        ({"box": BOX, "every": "often"}, 'every="change"'),
        ({"box": BOX, "frame": -1}, "frame=-1"),
        ({"box": BOX, "frame": 9}, "frame 9, but the video has 4"),
        ({"boxes": []}, "holds no object"),
        ({"boxes": [BOX], "point": (1, 2)}, "not both"),
        ({"prompts": {0: {1: Prompt(box=BOX)}}, "box": BOX}, "leave out box="),
        ({"prompts": {}}, "prompts="),
        ({"prompts": {0: Prompt(box=BOX)}}, "prompts="),
        ({"prompts": {0: {1: BOX}}}, "each is a pam_edge.Prompt"),
        ({"box": BOX, "backwards": True}, "a file or a folder"),
        ({"box": BOX, "lang": "de"}, "lang="),
    ],
)
def test_wrong_calls(pam: Model, how: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        pam.track(FRAMES, **how)


@pytest.mark.parametrize("source", [5, b"bytes", None, {0: 1}, "no/such.mp4"])
def test_wrong_sources(pam: Model, source: Any) -> None:
    with pytest.raises(UsageError, match="video"):
        pam.track(source, box=BOX)
