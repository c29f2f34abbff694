"""Streams in PAM's annotation format, followed and told by a fake model that sees white squares."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from command import pam_edge, refused
from fake_video import scene, video_pam
from fakes import spelled

from pam_edge.benchmarks.quality.streams import as_lines, evaluate_streams, read_streams, repeated, to_text
from pam_edge.benchmarks.synthetic.records import EventRecord, VideoRecord, as_rle
from pam_edge.core.errors import IntegrityError, UsageError

SIZES = (8, 6)  # frames of the events


def write(folder: Path, *, hidden: range = range(0), chinese: bool = False) -> Path:
    """A stream of two events: a square that moves right, out of sight in the `hidden` frames."""
    (folder / "clip").mkdir(parents=True)
    events, start = [], 0
    for number, count in enumerate(SIZES, start=1):
        names, masks = [], []
        for n in range(start, start + count):
            picture = scene() if n in hidden else scene((12 + 2 * n, 20))
            picture.save(folder / "clip" / f"{n}.png")
            names.append(f"{n}.png")
            masks.append(None if n in hidden else as_rle(np.asarray(picture.convert("L")) > 0))
        x = 12 + 2 * start
        true = "方块向右移动" if chinese else f"a square moves right {number}"
        events.append(
            EventRecord(number, tuple(names), true, ((x - 4, 16, x + 4, 24),), segmentations=tuple(masks))
        )
        start += count
    path = folder / "streams.jsonl"
    path.write_bytes(as_lines([VideoRecord("clip", tuple(events))]))
    return path


def test_events_are_followed_from_the_first_box_alone(tmp_path: Path) -> None:
    histories = []

    def knows(region: float, after: tuple[int, ...]) -> list[int]:
        text = pam.texts.decode(after).split("Previous caption: ")[1].split("\n")[0]
        histories.append(text)
        return spelled("a square moves right 1" if text == "None" else "it rests")

    pam, _ = video_pam(tmp_path / "bundle", knows)
    records = read_streams(write(tmp_path), tmp_path, ("en",))
    results, (row,) = evaluate_streams(pam, records, tmp_path)
    assert (row.lang, row.streams, row.events, row.lost) == ("en", 1, 2, 0)
    assert row.iou is not None and row.iou > 0.6
    assert [event.pred for event in results[0].annotations] == ["a square moves right 1", "it rests"]
    assert list(dict.fromkeys(histories)) == ["None", "a square moves right 1"]
    assert row.continuity == 0 and row.continuity_of_truth == pytest.approx(0.8)
    assert "a number of our own" in to_text([row])
    again = tmp_path / "results.jsonl"
    again.write_bytes(as_lines(results))
    assert read_streams(again, tmp_path, ("en",)) == results


def test_an_object_out_of_sight_is_counted_and_nothing_is_said(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path / "bundle")
    records = read_streams(write(tmp_path, hidden=range(8, 14), chinese=True), tmp_path, ("zh",))
    results, (row,) = evaluate_streams(pam, records, tmp_path)
    assert row.lang == "zh" and row.lost == 1
    assert [event.pred for event in results[0].annotations] == ["ok", ""]


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(UsageError, match="no video record in zh"):
        read_streams(path, tmp_path, ("zh",))
    record = read_streams(path, tmp_path, ("en",))[0]
    (tmp_path / "clip" / "3.png").unlink()
    with pytest.raises(IntegrityError, match="line 1: no picture"):
        read_streams(path, tmp_path, ("en",))
    first = msgspec.structs.replace(record.annotations[0], frames=("../../0.png",))
    path.write_bytes(as_lines([msgspec.structs.replace(record, annotations=(first,))]))
    with pytest.raises(IntegrityError, match=r"line 1: picture .* outside"):
        read_streams(path, tmp_path, ("en",))
    first = msgspec.structs.replace(record.annotations[0], box=())
    path.write_bytes(as_lines([msgspec.structs.replace(record, annotations=(first,))]))
    with pytest.raises(IntegrityError, match="line 1"):
        read_streams(path, tmp_path, ("en",))


def test_continuity_counts_shared_words() -> None:
    assert repeated("A red cup moves.", "a red cup moves") == 1
    assert repeated("a cup", "the dog runs") == 0 == repeated("", "a")
    assert repeated("红色杯子", "红色盘子") == 0.75


def test_streams_need_data() -> None:
    from pam_edge.bundle.builtin import BUNDLE

    refused(pam_edge("eval", BUNDLE, "--streams"), 2, "give one")
    for words in (["--n", "3"], ["--click", "centre"], ["--world", "1"]):
        refused(
            pam_edge("eval", BUNDLE, "--streams", "--data", "x.jsonl", *words),
            2,
            "do not belong to --streams",
        )
