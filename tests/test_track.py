"""Sources of frames, and the verb `track` from words on the command line to lines, text and a film."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import msgspec
import numpy as np
import pytest
from command import PROGRAM, pam_edge, refused
from fake_video import scene, video_pam
from fakes import spelled
from PIL import Image

from pam_edge.bundle.builtin import BUNDLE
from pam_edge.bundle.manifest import read_manifest, write_manifest
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, PamEdgeError, UsageError, WontFitError
from pam_edge.image import coco_rle
from pam_edge.image.preprocess import Prompt
from pam_edge.render.track_output import Outputs, lines_in, track
from pam_edge.render.video_writer import Film
from pam_edge.verify.golden_runner import VIDEO
from pam_edge.video.reader import open_source
from pam_edge.video.stream import Plan

if TYPE_CHECKING:
    from exported import Exported

COUNT = 12


def frames(count: int = COUNT) -> list[Image.Image]:
    return [scene((20, 20), (50, 10 + 3 * (n % 12))) for n in range(count)]


def noisy() -> list[Image.Image]:
    """More than a reader holds at once."""
    noises = (np.random.default_rng(n).integers(0, 255, (64, 64, 3), np.uint8) for n in range(30))
    return [Image.fromarray(noise) for noise in noises]


def film(path: Path, pictures: list[Image.Image], *, times: list[int] | None = None, **options: str) -> Path:
    """A video file; `times` are in eighths of a second."""
    kind = "yuv4mpegpipe" if path.suffix == ".y4m" else None
    codec = {".y4m": "rawvideo", ".avi": "mpeg4"}.get(path.suffix, "libx264")
    with av.open(str(path), "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(8))
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        for n, picture in enumerate(pictures):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = n if times is None else times[n], Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def folder(path: Path, pictures: list[Image.Image]) -> Path:
    path.mkdir()
    for n, picture in enumerate(pictures):
        picture.save(path / f"frame {n}.png")  # 10 comes after 9
    return path


def read(path: str | Path, **given: Any) -> tuple[int, PamEdgeError | None]:
    """How many frames come, and what ends them."""
    count = 0
    try:
        with open_source(str(path), **given) as source:
            for _ in source:
                count += 1
    except PamEdgeError as e:
        return count, e
    return count, None


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.y4m"])
def test_files_give_their_frames_in_order_and_time(tmp_path: Path, name: str) -> None:
    with open_source(str(film(tmp_path / name, frames())), count=True) as source:
        shots = list(source)
        assert source.count == COUNT and source.rate == 8
    assert [shot.time for shot in shots] == [n / 8 for n in range(COUNT)]
    for shot, wanted in zip(shots, frames(), strict=True):
        difference = np.abs(np.asarray(shot.picture, int) - np.asarray(wanted, int))
        assert shot.picture.size == (64, 64) and difference.mean() < 12


def test_folders_go_by_number(tmp_path: Path) -> None:
    with open_source(str(folder(tmp_path / "f", frames()))) as source:
        assert source.count == COUNT and source.rate is None
        for shot, wanted in zip(source, frames(), strict=True):
            assert shot.time is None and shot.picture.tobytes() == wanted.tobytes()


def test_a_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    raw = film(tmp_path / "a.mkv", frames()).read_bytes()
    program = (
        "import sys; from pam_edge.video.reader import open_source; print(sum(1 for _ in open_source('-')))"
    )
    done = subprocess.run([sys.executable, "-c", program], input=raw, capture_output=True, check=False)
    assert done.stdout.strip() == str(COUNT).encode(), done.stderr


def test_a_varying_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 1, 2, 5, 6, 10, 11, 12, 13, 20, 21, 22]
    with open_source(str(film(tmp_path / "a.mkv", frames(), times=times))) as source:
        found = [shot.time for shot in source]
    assert found == pytest.approx([t / 8 for t in times], abs=2e-3)


@pytest.mark.parametrize("name", ["a.mp4", "fast.mp4", "a.mkv", "a.avi", "a.ts", "a.y4m"])
def test_a_file_that_is_cut_short_says_where(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "fast.mp4" else {}
    path = film(tmp_path / name, noisy(), **options)
    # In the middle of one of .ts's packets of 188 bytes: cut between two, such a stream has just ended.
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10 // 188 * 188 + 94])
    count, error = read(path)
    assert isinstance(error, IntegrityError)
    if name == "a.mp4":  # its index was at the end
        assert count == 0 and "is no video that can be read" in str(error)
    else:
        assert 5 <= count < 28 and f"breaks off after {count} frames" in str(error)


def test_a_trimmed_file_is_whole(tmp_path: Path) -> None:
    """Its first frames are in the file but not to be shown: it was cut without encoding it anew."""
    film(tmp_path / "a.mp4", frames(60))
    options = {"avoid_negative_ts": "disabled"}
    with (
        av.open(str(tmp_path / "a.mp4")) as whole,
        av.open(str(tmp_path / "b.mp4"), "w", options=options) as cut,
    ):
        stream = whole.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        for packet in whole.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            packet.dts -= int(3 / stream.time_base)
            packet.pts -= int(3 / stream.time_base)
            packet.stream = copy
            cut.mux(packet)
    assert read(tmp_path / "b.mp4") == (36, None)


def test_what_cannot_be_piped_is_told(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        seek = tell = None  # type: ignore[assignment]

    data = film(tmp_path / "a.mp4", noisy()).read_bytes()
    count, error = read("-", pipe=Pipe(data))
    assert count == 0 and isinstance(error, IntegrityError) and "give the file itself" in str(error)


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 99)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\na.ts\n")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile a.mp4\n")
    film(tmp_path / "a.mp4", frames())
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 800, "NONE", ""))
        sound.writeframes(bytes(1600))
    for name in ("empty.mp4", "text.mp4", "list.m3u8", "list.ffconcat", "sound.wav"):
        count, error = read(tmp_path / name)
        assert count == 0 and isinstance(error, IntegrityError), name
    with av.open(str(tmp_path / "header.mp4"), "w") as header:
        header.add_stream("libx264", rate=8).codec_context.pix_fmt = "yuv420p"
        header.start_encoding()
    assert "it is empty but for its header" in str(read(tmp_path / "header.mp4")[1])
    (tmp_path / "header.y4m").write_bytes(b"YUV4MPEG2 W64 H64 F8:1\n")
    assert "holds no frame" in str(read(tmp_path / "header.y4m")[1])
    assert "is a variable of the shell not set" in str(read("")[1])
    for place in (tmp_path / "absent.mp4", tmp_path / "a.mp4" / "x", "a\0b"):
        assert isinstance(read(place)[1], UsageError)
    (tmp_path / "void").mkdir()
    assert "holds no picture" in str(read(tmp_path / "void")[1])
    assert isinstance(read("/dev/null")[1], EnvironmentProblem)
    assert read("-", pipe=io.BytesIO(b""))[0] == 0


def test_a_folder_whose_frames_change_size_or_break_says_which(tmp_path: Path) -> None:
    place = folder(tmp_path / "f", frames(4))
    frames(1)[0].resize((32, 64)).save(place / "frame 2.png")
    count, error = read(place)
    assert count == 2 and "frame 2 is 32x64 pixels, those before it are 64x64" in str(error)
    (place / "frame 1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    count, error = read(place)
    assert count == 1 and isinstance(error, IntegrityError)


def test_a_folder_s_folders_are_no_frames_and_a_frame_that_is_gone_is_told(tmp_path: Path) -> None:
    place = folder(tmp_path / "f", frames(4))
    (place / "frame 1b.png").mkdir()
    assert read(place) == (4, None)
    (place / "frame 2b.png").symlink_to(tmp_path / "gone.png")
    count, error = read(place)
    assert count == 3 and isinstance(error, IntegrityError) and "frame 2b.png" in str(error)


@pytest.mark.parametrize("part", [0.3, 0.62])
def test_a_raw_pipe_that_ends_in_the_middle_of_a_frame_is_told(tmp_path: Path, part: float) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    whole = film(tmp_path / "a.y4m", frames()).read_bytes()
    assert read("-", pipe=Pipe(whole)) == (COUNT, None)
    frame = 64 * 64 * 3 // 2 + len(b"FRAME\n")
    cut = int(len(whole) * part)
    count, error = read("-", pipe=Pipe(whole[:cut]))
    assert count == (cut - whole.index(b"\n") - 1) // frame
    assert isinstance(error, IntegrityError) and "in the middle of a frame" in str(error)
    after = whole.index(b"\n") + 1 + 5 * frame
    assert read("-", pipe=Pipe(whole[:after])) == (5, None), "that there was to be more shows nowhere"
    assert read("-", pipe=Pipe(whole[: after + 3]))[0] == 5


def test_what_is_no_picture_but_a_video_s_damage_is_told_at_once(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", noisy())
    whole = bytearray(path.read_bytes())
    start = whole.index(b"mdat") + 4
    whole[start + 100 : start + 60_000] = bytes(59_900)
    path.write_bytes(whole)
    count, error = read(path)
    assert count == 0 and isinstance(error, IntegrityError) and "gives no frame: " in str(error)


def test_results_are_written_as_they_come(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path / "bundle", lambda region, after: spelled(f"{len(after) % 97}"))
    lines: list[dict[str, Any]] = []
    said: list[str] = []
    outputs = Outputs(lines.append, lambda text, end: said.append(text + end), tmp_path / "out.mp4")
    prompts = {0: {1: Prompt(points=((20, 20, 1),))}}
    with open_source(str(film(tmp_path / "a.mkv", frames()))) as source:
        spent = track(pam, source, prompts, Plan("stream", every=8, max_tokens=8), outputs)
    assert [line["type"] for line in lines][:2] == ["source", "frame"] and lines[-1]["type"] == "end"
    seen = [line for line in lines if line["type"] == "frame"]
    assert [line["frame"] for line in seen] == list(range(COUNT)) and seen[4]["time"] == 0.5
    (obj,) = seen[3]["objects"]
    mask = coco_rle.decode(obj["mask"]["counts"], tuple(obj["mask"]["size"]))
    x0, y0, x1, y1 = obj["box"]
    assert obj["state"] == "seen" and mask[y0:y1, x0:x1].sum() == mask.sum() > 30
    captions = [line for line in lines if line["type"] == "caption"]
    assert [(c["segment"], c["frames"]) for c in captions] == [(1, [0, 7]), (2, [8, 11])]
    first, second = (c["text"] for c in captions)
    assert first and second and first != second
    assert "".join(said) == f"{first}  [frames 0 to 7]\n{second}  [frames 8 to 11]\n"
    assert spent.frames == COUNT and spent.captions == 2 and "ms a frame" in spent.text()
    json.dumps(lines, allow_nan=False)
    with open_source(str(tmp_path / "out.mp4")) as shown:
        drawn = list(shown)
    # The caption of the last segment came after the last frame, which therefore stays.
    assert len(drawn) == COUNT + 2 and drawn[-1].time == pytest.approx(11 / 8 + 3, abs=0.01)
    assert drawn[0].picture.size[0] >= 840 and drawn[0].picture.size[1] > drawn[0].picture.size[0]


def test_a_film_starts_with_the_first_frame_that_was_followed(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path / "bundle")
    lines: list[dict[str, Any]] = []
    with open_source(str(film(tmp_path / "a.mkv", frames()))) as source:
        prompts = {8: {1: Prompt(points=((20, 20, 1),))}}
        track(pam, source, prompts, Plan(), Outputs(lines.append, None, tmp_path / "out.mkv"))
    assert lines[1]["time"] == 1  # the source's own
    with av.open(str(tmp_path / "out.mkv")) as shown:
        assert [f.time for f in shown.decode(video=0)] == pytest.approx([n / 8 for n in range(4)], abs=2e-3)


def test_a_film_that_cannot_be_finished_is_told_in_the_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Film, words: Mapping[int, str]) -> None:
        raise WontFitError("cannot write the film")

    pam, _ = video_pam(tmp_path / "bundle")
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(Film, "close", full)
    outputs = Outputs(lines.append, None, tmp_path / "out.mkv")
    with (
        open_source(str(folder(tmp_path / "f", frames(2)))) as source,
        pytest.raises(WontFitError, match="the film"),
    ):
        track(pam, source, {0: {1: Prompt(points=((20, 20, 1),))}}, Plan(), outputs)
    assert lines[-1]["type"] == "end" and lines[-1]["error"] == "cannot write the film"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_lines_that_cannot_be_written_name_their_file(tmp_path: Path) -> None:
    with pytest.raises(WontFitError, match="/dev/full"), lines_in(Path("/dev/full")) as line:
        line({"type": "frame"})
    with pytest.raises(EnvironmentProblem, match="absent"), lines_in(tmp_path / "absent" / "x"):
        raise AssertionError("it cannot be opened")


def test_a_film_needs_its_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(EnvironmentProblem, match="libx264"):
        Film(tmp_path / "out.mp4", rate=None)


def test_a_source_that_breaks_leaves_readable_output(tmp_path: Path) -> None:
    pam, _ = video_pam(tmp_path / "bundle")
    place = folder(tmp_path / "f", frames(9))
    (place / "frame 6.png").write_bytes(b"no picture")
    lines: list[dict[str, Any]] = []
    with (
        open_source(str(place)) as source,
        pytest.raises(IntegrityError, match="frame 6"),
    ):
        outputs = Outputs(lines.append, None, tmp_path / "out.mkv")
        track(pam, source, {0: {1: Prompt(points=((20, 20, 1),))}}, Plan("clip", length=9), outputs)
    assert [line["type"] for line in lines].count("frame") == 6
    assert "caption" in {line["type"] for line in lines}
    assert "frame 6" in lines[-1]["error"]
    assert read(tmp_path / "out.mkv") == (8, None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing is pointed at"),
        (["--box", "1,1,9,9", "--caption", "all"], "stream, clip or none"),
        (["--box", "1,1,9,9", "--every", "0"], "a number of frames, or change"),
        (["--box", "1,1,9,9", "--box", "2,2,9,9", "--point", "3,3"], "several objects"),
        (["--box", "1,1,9,9", "--out", "film.gif"], "has to end in .mp4, .mkv"),
        (["--box", "1,1,9,9", "--lang", "fr"], "en or zh"),
        (["--box", "1,1,9,9", "--json", "same.mkv", "--out", "./same.mkv"], "is the file of --out"),
    ],
)
def test_words_that_make_no_sense(exported: Exported, tmp_path: Path, words: list[str], told: str) -> None:
    place = folder(tmp_path / "f", frames(1))
    refused(pam_edge("track", exported.bundle, place, *words), 2, told)


def test_the_source_is_not_written_over(exported: Exported, tmp_path: Path) -> None:
    video = film(tmp_path / "a.mp4", frames(2))
    (tmp_path / "link.mp4").symlink_to(video)
    before = video.read_bytes()
    for option in ("--out", "--json"):
        told = pam_edge("track", exported.bundle, video, "--box", "1,1,9,9", option, tmp_path / "link.mp4")
        refused(told, 2, "is the source")
    assert video.read_bytes() == before


def test_a_bundle_for_pictures_alone_is_told(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    shutil.copytree(BUNDLE, pictures)
    manifest = read_manifest(pictures / "bundle.json")
    graphs = tuple(graph for graph in manifest.graphs if graph.name not in VIDEO)
    assert len(graphs) < len(manifest.graphs)
    write_manifest(pictures, msgspec.structs.replace(manifest, graphs=graphs))
    place = folder(tmp_path / "f", frames(1))
    refused(pam_edge("track", pictures, place, "--box", "1,1,9,9"), 2, "for pictures alone", "export")


def test_the_command_follows_and_tells(exported: Exported, tmp_path: Path) -> None:
    place = folder(tmp_path / "f", frames(4))
    lines = tmp_path / "lines.jsonl"
    words = ("track", exported.bundle, place, "--box", "16,16,24,24", "--box", "46,6,54,14")
    told = pam_edge(*words, "--caption", "clip", "--max-tokens", "3", "--json", lines, "--lang", "zh")
    assert told.code == 0, told.err
    documents = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [d["type"] for d in documents].count("frame") == 4 and documents[-1]["error"] is None
    captions = [d for d in documents if d["type"] == "caption"]
    assert [c["object"] for c in captions] == [1, 2] and all(len(c["token_ids"]) <= 3 for c in captions)
    assert "ms a frame (median): encode" in told.err and "object 1: " in told.out
    odd = place.rename(tmp_path / os.fsdecode(b"f\xff"))  # a name that is no text
    assert pam_edge("track", exported.bundle, odd, "--point", "20,20", "--json", lines).code == 0
    assert json.loads(lines.read_text().splitlines()[0])["name"] == str(odd)
    odd.rename(place)
    late = pam_edge(*words, "--frame", "7")
    refused(late, 2, "on frame 7, but the video has 4")
    piped = pam_edge(*words[:3], "--point", "20,20", "--json", "-")
    assert [json.loads(line)["type"] for line in piped.out.splitlines()] == ["source", *["frame"] * 4, "end"]


def test_without_pyav_folders_still_work(exported: Exported, tmp_path: Path) -> None:
    place, video = folder(tmp_path / "f", frames(2)), film(tmp_path / "a.mkv", frames(2))
    program = f"import sys; sys.modules['av'] = None\n{PROGRAM}"
    for source, code in ((place, 0), (video, 3)):
        done = subprocess.run(
            [sys.executable, "-c", program, "track", exported.bundle, source, "--point", "20,20"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert code == 0 or "pip install 'pam-edge[video]'" in done.stderr


def test_a_camera_s_device_is_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No camera here: what comes of PyAV's v4l2 is a file's, and the path to it is the real one."""
    recorded, opened, asked = film(tmp_path / "a.mkv", frames()), av.open, []

    def camera(place: str, format: str) -> Any:
        asked.append((place, format))
        return opened(str(recorded))

    monkeypatch.setattr(av, "open", camera)
    assert read("/dev/zero") == (COUNT, None) and asked == [("/dev/zero", "v4l2")]
    monkeypatch.setattr(av, "open", opened)
    count, error = read("/dev/zero")  # the reader itself says that this is no camera, or that there is none
    assert count == 0 and isinstance(error, EnvironmentProblem)
    assert "ioctl" in str(error) or "v4l2" in str(error)
    assert "ffmpeg -f v4l2" in str(error)
