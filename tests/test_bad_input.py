"""Pictures and prompts a user gets wrong: a clear message, the right exit code, no traceback."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from bomb import png
from command import pam_edge, refused
from exported import Exported
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

if TYPE_CHECKING:
    pass


@pytest.mark.parametrize(
    ("raw", "code", "word"),
    [
        (b"", 6, "scene"),
        (b"just words", 6, "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", 6, "not a picture"),
        (png(60_000, 60_000), 6, "scene"),
        (png(2, 1 << 30), 6, "scene"),
        (None, 6, "scene"),
    ],
    ids=["empty", "text", "postscript", "bomb", "tower", "cut"],
)
def test_what_is_no_picture(
    exported: Exported, photo: Path, tmp_path: Path, raw: bytes | None, code: int, word: str
) -> None:
    path = tmp_path / "scene.png"
    path.write_bytes(photo.read_bytes()[:300] if raw is None else raw)
    refused(pam_edge("run", exported.bundle, path, "--point", "1,1"), code, word)


def test_no_picture_at_all(exported: Exported, tmp_path: Path) -> None:
    refused(pam_edge("run", exported.bundle, tmp_path / "none.png", "--point", "1,1"), 2, "none.png")
    refused(pam_edge("run", exported.bundle, tmp_path, "--point", "1,1"), 2, str(tmp_path))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--point", "200.5,1"],
        ["--point", "-1,1"],
        ["--point=-1,1"],
        ["--point", "1,150.5"],
        ["--point", "nan,1"],
        ["--point", "1,inf"],
        ["--point", "1,2,3"],
        ["--point", ""],
        ["--point", "1e400,1"],
        ["--point", "1,1,0.5"],
        ["--box", "1,1,300,20"],
        ["--box", "20,20,10,10"],
        ["--box", "5,5,5,9"],
        ["--box", "1,2,3"],
        ["--point", "5,5", "--task", "sing"],
        ["--point", "5,5", "--task", "video"],
        ["--point", "5,5", "--task", ""],
        ["--point", "5,5", "--lang", "tlh"],
        ["--point", "5,5", "--ask", "  "],
        ["--point", "5,5", "--ask", "why? " * 2000],
        ["--point", "5,5", "--temperature", "-1"],
        ["--point", "5,5", "--temperature", "nan"],
        ["--point", "5,5", "--top-p", "0"],
        ["--point", "5,5", "--max-tokens", "0"],
        ["--point", "5,5", "--seed", "-1"],
        ["--point", "5,5", "--threads", "-1"],
        ["--point", "5,5", "--out", "overlay.exe"],
    ],
    ids=" ".join,
)
def test_prompts_that_make_no_sense(exported: Exported, photo: Path, words: list[str]) -> None:
    result = pam_edge("run", exported.bundle, photo, *words)
    assert result.code == 2, result
    assert result.clean
    assert "mask:" not in result.out, "refused before slow work"


@pytest.mark.parametrize("words", [["--point", "200.5,1"], ["--box", "1,1,300,20"]], ids=" ".join)
def test_what_lies_outside_is_refused_before_any_graph_is_opened(
    exported: Exported, photo: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("pam_edge.pipeline.pam.open_session", lambda bundle, graph, **_: opened.append(graph))
    refused(pam_edge("run", exported.bundle, photo, *words), 2, "outside")
    assert opened == []


def test_masks_that_do_not_fit(exported: Exported, photo: Path, tmp_path: Path) -> None:
    Image.new("L", (9, 9), 255).save(tmp_path / "small.png")
    Image.new("L", (200, 150), 0).save(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no")
    for name, code in (("small.png", 2), ("empty.png", 2), ("text.png", 6), ("absent.png", 2)):
        refused(pam_edge("run", exported.bundle, photo, "--mask", tmp_path / name), code)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30) | st.from_regex(r"\A[-+0-9.,einaf ]{1,20}\Z"))
def test_no_text_for_a_point_or_a_box_is_a_bug(text: str) -> None:
    from pam_edge.cli.arguments import read_prompt
    from pam_edge.core.errors import UsageError

    for points, box in (([text], None), ([], text)):
        try:
            prompt = read_prompt(points, box, None)
        except UsageError:
            continue
        numbers = [n for point in prompt.points for n in point] + list(prompt.box or ())
        assert np.isfinite(numbers).all()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder where not even root may write")
def test_a_picture_has_its_place_before_slow_work(tmp_path: Path) -> None:
    from pam_edge.cli.arguments import check_picture_place
    from pam_edge.core.errors import EnvironmentProblem

    with pytest.raises(EnvironmentProblem, match=r"cannot write /proc/self/x\.png"):
        check_picture_place(Path("/proc/self/x.png"))
    check_picture_place(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written(
    exported: Exported, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", exported.bundle, photo, "--point", "9,9", "--max-tokens", "1", "--out"]
    refused(pam_edge(*words, tmp_path / "no" / "x.png"), 3, "no folder")
    (tmp_path / "x.png").mkdir()
    refused(pam_edge(*words, tmp_path / "x.png"), 2, "is a folder")
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        write(self, data[:9])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    (tmp_path / "old.png").write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", full)
    result = pam_edge(*words, tmp_path / "old.png")
    assert result.code == 7
    assert "free some space" in result.err
    assert (tmp_path / "old.png").read_bytes() == b"old"
    assert not list(tmp_path.glob("*.tmp"))
