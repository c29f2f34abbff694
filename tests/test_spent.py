"""What a run took: medians, sums and speed, in the last line and for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import pam_edge
from fake_video import video_pam
from fakes import spelled
from test_track import folder, frames

from pam_edge.bundle.builtin import BUNDLE
from pam_edge.core.errors import EnvironmentProblem
from pam_edge.image.preprocess import Prompt
from pam_edge.render import track_timing as spent_module
from pam_edge.render.track_output import Outputs, track
from pam_edge.render.track_timing import Spent
from pam_edge.video.reader import open_source
from pam_edge.video.stream import Caption, Plan, Words
from pam_edge.video.tracker import Frame

FRAME = {"preprocess": 1.0, "load": 0.0, "encode": 6.0, "memory": 4.0, "mask": 2.0, "remember": 2.0}
CAPTION = {"perceiver": 10.0, "prefill": 100.0, "decode": 50.0, "first_word": 30.0, "whole": 90.0}


def told(ms: dict[str, float], *, lost: bool = False) -> Caption:
    return Caption(1, 1, (0, 7), "" if lost else "a cup", lost, (), "stop", ms)


def test_medians_and_sums_of_what_was_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(spent_module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(spent_module, "peak_mb", lambda: 123.4)
    spent = Spent()
    for n, whole in enumerate((900.0, 15.0, 17.0, 16.0)):  # the first opens the graphs
        timing = {**FRAME, "load": 800.0 if n == 0 else 0.0, "encode": 6.0 + n, "whole": whole}
        spent.take(Frame(n, (8, 8), (), timing))
    spent.take(Words(1, 1, "a "))
    spent.take(told(CAPTION))
    spent.take(told({**CAPTION, "first_word": 50.0}))
    spent.take(told({"load": 5.0}, lost=True))
    now[0] += 1.8
    assert spent.numbers() == {
        "seconds": 1.8,
        "load_ms": 800.0,
        "frames_per_s": 4.0,  # in the second that was not spent on opening graphs
        "frame_ms": {
            "preprocess": {"median": 1.0, "sum": 4.0},
            "encode": {"median": 7.5, "sum": 30.0},
            "memory": {"median": 4.0, "sum": 16.0},
            "mask": {"median": 2.0, "sum": 8.0},
            "remember": {"median": 2.0, "sum": 8.0},
            "whole": {"median": 16.5, "sum": 948.0},
        },
        "caption_ms": {
            name: {"median": ms, "sum": 2 * ms} for name, ms in {**CAPTION, "first_word": 40.0}.items()
        },
        "peak_mb": 123.4,
    }
    assert (spent.frames, spent.captions) == (4, 2)
    assert spent.text() == (
        "4 frames, 4.0 a second; ms a frame (median): encode 8, memory 4, mask 2, remember 2, whole 16; "
        "ms a segment (median): perceiver 10, prefill 100, first word 40, decode 50, whole 90; peak 123 MB"
    )


def test_nothing_was_done() -> None:
    spent = Spent()
    numbers = spent.numbers()
    assert numbers["frames_per_s"] is None and numbers["frame_ms"] == numbers["caption_ms"] == {}
    assert spent.text().startswith("0 frames")


def test_the_last_line_holds_them(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path / "bundle", lambda region, after: spelled("it moves"))
    lines: list[dict[str, Any]] = []
    with open_source(str(folder(tmp_path / "f", frames()))) as source:
        plan = Plan("stream", every=8, length=12, max_tokens=8)
        spent = track(pam, source, {0: {1: Prompt(points=((20, 20, 1),))}}, plan, Outputs(lines.append))
    end = json.loads(json.dumps(lines[-1], allow_nan=False))
    assert (end["type"], end["frames"], end["captions"], end["error"]) == ("end", 12, 2, None)
    assert set(end["frame_ms"]) == {"preprocess", "encode", "memory", "mask", "remember", "whole"}
    assert set(end["caption_ms"]) == {"perceiver", "prefill", "decode", "first_word", "whole"}
    of_lines = sorted(line["timing_ms"]["whole"] for line in lines if line["type"] == "frame")
    assert end["frame_ms"]["whole"]["sum"] == pytest.approx(sum(of_lines), rel=1e-3)
    assert (
        of_lines[5] <= end["frame_ms"]["whole"]["median"] + 1e-3
        and end["frame_ms"]["whole"]["median"] <= of_lines[6] + 1e-3
    )
    worked = end["seconds"] - end["load_ms"] / 1e3
    assert 12 / end["frames_per_s"] == pytest.approx(worked, abs=1e-3)  # seconds are told in milliseconds
    assert end["caption_ms"]["first_word"]["median"] > 0 and "first word" in spent.text()


@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt(), EnvironmentProblem("it broke")], ids=["Ctrl-C", "error"]
)
def test_whatever_stops_a_run_the_last_line_comes(tmp_path: Path, stop: BaseException) -> None:
    pam, _ = video_pam(tmp_path / "bundle")
    lines: list[dict[str, Any]] = []

    def line(document: dict[str, Any]) -> None:
        lines.append(document)
        if document.get("frame") == 2:
            raise stop

    with (
        open_source(str(folder(tmp_path / "f", frames()))) as source,
        pytest.raises(type(stop)),
    ):
        outputs = Outputs(line, None, tmp_path / "out.mkv")
        track(pam, source, {0: {1: Prompt(points=((20, 20, 1),))}}, Plan(), outputs)
    assert lines[-1]["type"] == "end" and lines[-1]["frames"] == 3
    assert lines[-1]["error"] == (str(stop) or "interrupted")
    with open_source(str(tmp_path / "out.mkv")) as shown:
        assert len(list(shown)) == 2  # the third was stopped before it was drawn


def test_the_command_sums_up(tmp_path: Path) -> None:
    words = ("track", BUNDLE, folder(tmp_path / "f", frames(3)), "--box", "16,16,24,24", "--threads", "1")
    told = pam_edge(*words, "--json", "-")
    assert told.code == 0, told.err
    end = json.loads(told.out.splitlines()[-1])
    assert end["peak_mb"] > 10 and end["frame_ms"]["encode"]["median"] > 0
    summary = told.err.strip().splitlines()[-1]
    for word in ("3 frames", "a second", "ms a frame (median): encode", "remember", "MB"):
        assert word in summary, summary
