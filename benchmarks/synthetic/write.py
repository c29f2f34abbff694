"""Scenes and clips as files, in PAM's annotation format: what anyone's data would look like.

Images are PNG, so that a mask fits its picture to the pixel; frames of clips are JPEG, and a video file
beside them on request. Knows how to write, not how to read (`records.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pam_edge.benchmarks.synthetic.answers import LANGUAGES, TASKS, Language, answer
from pam_edge.benchmarks.synthetic.clicks import random_click
from pam_edge.benchmarks.synthetic.clip_words import event_caption, segment_caption
from pam_edge.benchmarks.synthetic.clips import Clip, clip
from pam_edge.benchmarks.synthetic.combos import Split
from pam_edge.benchmarks.synthetic.records import EventRecord, ImageRecord, Record, Turn, VideoRecord, as_rle
from pam_edge.benchmarks.synthetic.scene import Scene, nth_seed, scene
from pam_edge.core.errors import EnvironmentProblem
from pam_edge.text.tokenization import PAM_PROMPTS

FRAMES_PER_SECOND = 8
Corners = tuple[float, float, float, float]


def write_images(
    folder: Path, seed: int, n: int, split: Split = "train", *, languages: Sequence[Language] = LANGUAGES
) -> Path:
    """`n` scenes as `folder/images/*.png`; returns `folder/annotations.jsonl`, one line per object.

    A line holds box, one click, mask, and every task's question and answer in the languages given. Scene i is
    `scene(nth_seed(seed, i), split)`. Image paths are relative to `folder`.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    records: list[Record] = []
    for i in range(n):
        drawn = scene(nth_seed(seed, i), split)
        name = f"images/{i:06d}.png"
        Image.fromarray(drawn.image).save(folder / name)
        records += _image_records(drawn, name, languages)
    return _write_lines(folder / "annotations.jsonl", records)


def write_clips(
    folder: Path,
    seed: int,
    n: int,
    split: Split = "train",
    *,
    languages: Sequence[Language] = LANGUAGES,
    video: bool = False,
) -> tuple[Path, Path]:
    """`n` clips as `folder/clips/NNNNNN/*.jpg`; returns `events.jsonl` and `streaming.jsonl` in `folder`.

    In `events.jsonl` a whole clip is one event with one caption, in `streaming.jsonl` every segment is one; a
    record per clip and language. With `video` also `folder/clips/NNNNNN.mp4` (needs the extra `video`, else
    EnvironmentProblem).
    """
    events: list[Record] = []
    streams: list[Record] = []
    for i in range(n):
        filmed = clip(nth_seed(seed, i), split)
        where = f"clips/{i:06d}"
        (folder / where).mkdir(parents=True, exist_ok=True)
        for k, frame in enumerate(filmed.frames):
            Image.fromarray(frame).save(folder / where / _frame(k), quality=92)
        if video:
            write_video(folder / f"{where}.mp4", filmed.frames)
        for language in languages:
            whole = _event(filmed, 1, range(len(filmed.frames)), event_caption(filmed, language))
            events.append(VideoRecord(where, (whole,)))
            parts = [
                _event(filmed, k + 1, range(part.start, part.stop), segment_caption(filmed, k, language))
                for k, part in enumerate(filmed.segments)
            ]
            streams.append(VideoRecord(where, tuple(parts)))
    return _write_lines(folder / "events.jsonl", events), _write_lines(folder / "streaming.jsonl", streams)


def write_video(path: Path, frames: NDArray[np.uint8], *, fps: int = FRAMES_PER_SECOND) -> None:
    """Frames uint8 [T, H, W, 3], H and W even, as an H.264 file. Raises EnvironmentProblem without PyAV."""
    try:
        import av
    except ImportError as e:
        raise EnvironmentProblem("writing video files needs PyAV: pip install 'pam-edge[video]'") from e
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "18"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _image_records(drawn: Scene, name: str, languages: Sequence[Language]) -> list[ImageRecord]:
    rng = np.random.default_rng(drawn.seed)
    records = []
    for index, obj in enumerate(drawn.objects):
        turns: list[Turn] = []
        for language in languages:
            for task in TASKS:
                opening = "" if turns else "<image>\n"
                turns.append(Turn("human", opening + PAM_PROMPTS.tasks[language][task]))
                turns.append(Turn("gpt", answer(drawn, index, task, language)))
        click = random_click(obj.mask, rng)
        records.append(ImageRecord(name, obj.box, (click,), (1,), tuple(turns), as_rle(obj.mask)))
    return records


def _event(filmed: Clip, number: int, frames: range, caption: str) -> EventRecord:
    box = filmed.box(frames[0])
    if box is None:
        raise AssertionError("a segment begins with its target in sight")
    corners: Corners = (box.x, box.y, box.x + box.w, box.y + box.h)
    masks = tuple(as_rle(filmed.masks[k]) if filmed.masks[k].any() else None for k in frames)
    return EventRecord(number, tuple(_frame(k) for k in frames), caption, (corners,), segmentations=masks)


def _frame(index: int) -> str:
    return f"{index:04d}.jpg"


def _write_lines(path: Path, records: Iterable[Record]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in records))
    return path
