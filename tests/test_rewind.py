"""Going back: frames in reverse, objects followed from a later frame to the first, and the verb for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from command import pam_edge, refused
from fake_video import scene, video_pam
from PIL import Image
from test_track import film, folder, frames, read

from pam_edge.bundle.builtin import BUNDLE
from pam_edge.core.errors import IntegrityError, PamEdgeError, UsageError
from pam_edge.image.preprocess import Prompt
from pam_edge.render.track_output import Outputs, track
from pam_edge.video import reverse_reader
from pam_edge.video.reader import open_source
from pam_edge.video.reverse_reader import open_backwards
from pam_edge.video.stream import Plan, follow
from pam_edge.video.tracker import Frame


@pytest.mark.parametrize("held", [1, 5, 100])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.y4m"])
def test_frames_come_in_reverse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, held: int
) -> None:
    monkeypatch.setattr(reverse_reader, "HELD", held * 3 * 64 * 64)
    path = film(tmp_path / name, frames())
    with open_source(str(path)) as source:
        forwards = list(source)[:9]
    with open_backwards(str(path), 8) as source:
        assert (source.count, source.rate) == (9, 8)
        back = list(source)
    assert [shot.time for shot in back] == [n / 8 for n in range(8, -1, -1)]
    for one, other in zip(forwards, reversed(back), strict=True):
        assert one.picture.tobytes() == other.picture.tobytes()


def test_a_folder_goes_back_too(tmp_path: Path) -> None:
    place = folder(tmp_path / "f", frames())
    with open_backwards(str(place), 11) as source:
        for shot, wanted in zip(source, reversed(frames()), strict=True):
            assert shot.picture.tobytes() == wanted.tobytes()


def test_what_cannot_be_gone_back_in_is_refused(tmp_path: Path) -> None:
    place, path = folder(tmp_path / "f", frames(3)), film(tmp_path / "a.mkv", frames(3))
    for where, last, told in (
        ("-", 2, "only a file or a folder"),
        ("/dev/null", 2, "only a file or a folder"),
        (str(place), 3, "on frame 3, but the video has 3"),
        (str(place), 0, "nothing to go back to"),
        (str(tmp_path / "absent.mkv"), 2, "no video at"),
    ):
        with pytest.raises(UsageError, match=told):
            open_backwards(where, last)
    with (
        open_backwards(str(path), 3) as source,
        pytest.raises(UsageError, match="on frame 3, but the video has 3"),
    ):
        next(source)
    (tmp_path / "text.mp4").write_text("no video\n" * 99)
    with pytest.raises(IntegrityError, match="is no video"):
        open_backwards(str(tmp_path / "text.mp4"), 2)
    frames(1)[0].resize((32, 64)).save(place / "frame 1.png")
    with open_backwards(str(place), 2) as source, pytest.raises(IntegrityError, match="32x64"):
        list(source)


def test_an_object_is_followed_back_to_where_it_came_from(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path)
    pictures = [scene(*([] if n in (4, 5) else [(12 + 3 * n, 20)])) for n in range(11)]
    prompts = {10: {1: Prompt(points=((42, 20, 1),))}, 7: {2: Prompt(box=(29, 16, 37, 24))}}
    events = list(follow(pam, reversed(pictures), prompts, Plan(length=11, backwards=True)))
    found = {event.index: event.objects for event in events if isinstance(event, Frame)}
    assert list(found) == list(range(10, -1, -1))
    assert [len(objects) for objects in found.values()] == [1] * 3 + [2] * 8
    for index, objects in found.items():
        for obj in objects:
            assert obj.box == (None if index in (4, 5) else (8 + 3 * index, 16, 16 + 3 * index, 24))
    with pytest.raises(UsageError, match="followed alone"):
        Plan("clip", backwards=True)


def test_memory_goes_back_as_it_goes_forwards(tmp_path: Path) -> None:
    """The same pictures in the same order, numbered up or down: the same feeds of memory attention."""
    told: list[list[dict[str, np.ndarray]]] = []
    for name, plan, at in (("up", Plan(length=6), 0), ("down", Plan(length=6, backwards=True), 5)):
        pam, log = video_pam(tmp_path / name)
        pictures = [scene((12 + 3 * n, 20)) for n in range(6)]
        list(follow(pam, pictures, {at: {1: Prompt(points=((12, 20, 1),))}}, plan))
        told.append([feeds for feeds in log.feeds if "memory_age" in feeds])
    assert len(told[0]) == len(told[1]) == 5
    for up, down in zip(*told, strict=True):
        for key in up:
            np.testing.assert_array_equal(up[key], down[key])


def test_lines_and_film_of_going_back(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path / "bundle")
    lines: list[dict[str, Any]] = []
    with open_backwards(str(film(tmp_path / "a.mkv", frames())), 9) as source:
        prompts = {9: {1: Prompt(points=((20, 20, 1),))}}
        plan = Plan(length=source.count, backwards=True)
        track(pam, source, prompts, plan, Outputs(lines.append, None, tmp_path / "out.mkv"))
    assert lines[0]["backwards"] is True and lines[0]["frames"] == 10
    seen = [line for line in lines if line["type"] == "frame"]
    assert [(line["frame"], line["time"]) for line in seen] == [(n, n / 8) for n in range(9, -1, -1)]
    assert seen[0]["objects"][0]["prompted"] and not seen[1]["objects"][0]["prompted"]
    with av.open(str(tmp_path / "out.mkv")) as shown:
        assert [f.time for f in shown.decode(video=0)] == pytest.approx([n / 8 for n in range(10)], abs=2e-3)


def test_a_file_that_breaks_before_the_prompt_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    pictures = [Image.fromarray(noise.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(30)]
    path = film(tmp_path / "a.mkv", pictures)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    count, _ = read(path)

    def back(last: int) -> tuple[int, PamEdgeError | None]:
        shots = 0
        with open_backwards(str(path), last) as source:
            try:
                for _ in source:
                    shots += 1
            except PamEdgeError as e:
                return shots, e
        return shots, None

    assert back(3) == (4, None), "what is damaged lies ahead"
    shots, error = back(28)
    assert shots == 0 and isinstance(error, IntegrityError) and f"breaks off after {count}" in str(error)


def test_the_command_goes_back(tmp_path: Path) -> None:
    place = folder(tmp_path / "f", frames(4))
    words = ("track", BUNDLE, place, "--point", "20,20", "--backwards", "--threads", "1")
    told = pam_edge(*words, "--frame", "2", "--json", "-")
    assert told.code == 0, told.err
    documents = [json.loads(line) for line in told.out.splitlines()]
    assert [d["frame"] for d in documents if d["type"] == "frame"] == [2, 1, 0]
    refused(pam_edge(*words), 2, "nothing to go back to")
    refused(pam_edge(*words, "--frame", "9"), 2, "on frame 9, but the video has 4")
    refused(pam_edge(*words, "--frame", "2", "--caption", "clip"), 2, "--backwards follows and tells nothing")


def test_a_file_is_let_go_before_its_end(tmp_path: Path) -> None:
    """A decoder's threads once waited for the interpreter that waited for them: now and then, for ever."""
    path = film(tmp_path / "a.mp4", frames())
    program = (
        "import sys; from pam_edge.video.reader import open_source\n"
        "for n in range(40):\n"
        "    with open_source(sys.argv[1]) as source:\n"
        "        for _ in range(1 + n % 9): next(source)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=300)
