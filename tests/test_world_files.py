"""The world as files in PAM's annotation format, written and read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pam_edge.benchmarks import synthetic
from pam_edge.benchmarks.synthetic.records import (
    ImageRecord,
    Rle,
    VideoRecord,
    as_mask,
    pictures_of,
    read_annotations,
)
from pam_edge.benchmarks.synthetic.scene import nth_seed
from pam_edge.benchmarks.synthetic.write import write_clips, write_images, write_video
from pam_edge.core.errors import IntegrityError, UsageError


def test_images_come_back_as_they_were(tmp_path: Path) -> None:
    path = write_images(tmp_path, 5, 3, "heldout")
    records = read_annotations(path, tmp_path)
    scenes = [synthetic.scene(nth_seed(5, i), "heldout") for i in range(3)]
    objects = [(scene, k) for scene in scenes for k in range(len(scene.objects))]
    assert len(records) == len(objects)
    for record, (scene, k) in zip(records, objects, strict=True):
        assert isinstance(record, ImageRecord)
        (picture,) = pictures_of(record, tmp_path)
        assert np.array_equal(np.array(Image.open(picture)), scene.image)
        obj = scene.objects[k]
        assert record.bbox == tuple(obj.box)
        assert isinstance(record.segmentation, Rle)
        assert np.array_equal(as_mask(record.segmentation), obj.mask)
        assert record.points is not None and record.labels == (1,)
        x, y = record.points[0]
        assert obj.mask[int(y), int(x)]
        assert record.conversations[0].value == "<image>\nClassify this subject and provide its label."
        answers = [turn.value for turn in record.conversations if turn.speaker == "gpt"]
        assert answers == [
            synthetic.answer(scene, k, task, language)
            for language in synthetic.LANGUAGES
            for task in synthetic.TASKS
        ]


def test_a_line_has_the_fields_of_the_original(tmp_path: Path) -> None:
    line = json.loads(write_images(tmp_path, 0, 1).read_text().splitlines()[0])
    assert line["type"] == "image"
    assert set(line) == {"type", "image", "bbox", "points", "labels", "conversations", "segmentation"}
    assert set(line["conversations"][0]) == {"from", "value"}


def test_clips_come_back_with_boxes_and_captions(tmp_path: Path) -> None:
    events, streaming = write_clips(tmp_path, 2, 1)
    filmed = synthetic.clip(nth_seed(2, 0))
    whole, parts = read_annotations(events, tmp_path), read_annotations(streaming, tmp_path)
    assert len(whole) == len(parts) == 2  # a record per language
    for record, language in zip(parts, synthetic.LANGUAGES, strict=True):
        assert isinstance(record, VideoRecord)
        assert len(pictures_of(record, tmp_path)) == len(filmed.frames)
        for k, (event, part) in enumerate(zip(record.annotations, filmed.segments, strict=True)):
            assert event.gt == synthetic.segment_caption(filmed, k, language)
            box = filmed.box(part.start)
            assert box is not None and event.box == ((box.x, box.y, box.x + box.w, box.y + box.h),)
            assert isinstance(event.segmentations, tuple)
            for coded, mask in zip(event.segmentations, filmed.masks[part.start : part.stop], strict=True):
                assert not mask.any() if coded is None else np.array_equal(as_mask(coded), mask)
    first = np.array(Image.open(pictures_of(parts[0], tmp_path)[0]), dtype=int)
    assert np.abs(first - filmed.frames[0]).mean() < 6  # JPEG


def test_a_video_file_holds_the_frames(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    frames = synthetic.clip(1).frames
    write_video(tmp_path / "clip.mp4", frames)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        back = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(back) == len(frames) and back[0].shape == frames[0].shape
    assert np.abs(back[-1].astype(int) - frames[-1]).mean() < 8


def test_the_reader_names_the_line(tmp_path: Path) -> None:
    good = write_images(tmp_path, 0, 1).read_text().splitlines()
    broken = tmp_path / "broken.jsonl"
    for change, message in (
        ({"image": "images/none.png"}, "no picture"),
        ({"image": "../elsewhere.png"}, "outside"),
        ({"bbox": [1, 2, 3]}, "bbox"),
        ({"type": "sound"}, "type"),
        ({"conversations": []}, "conversations"),
    ):
        broken.write_text("\n".join([good[0], json.dumps(json.loads(good[1]) | change)]))
        with pytest.raises(IntegrityError, match=rf"line 2: .*{message}"):
            read_annotations(broken, tmp_path)
    with pytest.raises(UsageError, match="no file"):
        read_annotations(tmp_path / "nothing.jsonl", tmp_path)


def test_the_original_s_own_lines_are_read(tmp_path: Path) -> None:
    """As the format is described: null fields, no masks of ours, unknown extras."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    image = {
        "type": "image",
        "image": "a.png",
        "bbox": None,
        "points": [[3, 4]],
        "labels": [1],
        "id": 7,
        "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}],
    }
    event = {"event_id": 1, "frames": ["a.png"], "gt": "Runs.", "box": [[0, 0, 4, 4]], "pred": "Walks."}
    video = {"type": "video", "image_root": ".", "annotations": [event]}
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(image) + "\n\n" + json.dumps(video) + "\n")
    first, second = read_annotations(path, tmp_path)
    assert isinstance(first, ImageRecord) and first.points == ((3, 4),) and first.bbox is None
    assert isinstance(second, VideoRecord) and second.annotations[0].pred == "Walks."
    assert pictures_of(second, tmp_path) == (tmp_path / "a.png",)
