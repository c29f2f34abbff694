"""Sources of video frames: a file, a folder of pictures, a camera, or a pipe (`-`); through PyAV.

Every frame is an upright picture with its time, one at a time, at the source's own rate. An error of a source
is raised when its frame is reached, so all frames before it are usable. Knows no model.
"""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from PIL import Image

from pam_edge.core.errors import EnvironmentProblem, IntegrityError, PamEdgeError, UsageError
from pam_edge.image.preprocess import MAX_PIXELS, MAX_SIDE, load_image
from pam_edge.video.counting_file import Counted

PIPE = "-"
_PIPE_NAME = "the pipe"
_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".gif", ".tif", ".tiff", ".avif", ".jp2"}
# Containers and raw streams alone: never what names other files or addresses (playlists, concat scripts).
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,yuv4mpegpipe,mjpeg,mjpeg_2000,gif,apng,"
    "ogg,flv,live_flv,asf,ivf,h264,hevc,av1,obu,m4v,nut,dv,mxf,rm,wtv,webp_pipe,jpeg_pipe,png_pipe,image2pipe"
)
_CAMERAS = (
    "to read a camera, pipe it: ffmpeg -f v4l2 -i /dev/video0 -f matroska - | pam-edge track BUNDLE - ..."
)


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame of a source."""

    picture: Image.Image  # upright RGB
    time: float | None  # seconds since the first, where the source says


class Source(Iterator[Shot]):
    """An opened source. `count` is its number of frames and `rate` frames a second, None where unknown."""

    def __init__(self, shots: Iterator[Shot], *, name: str, count: int | None, rate: float | None) -> None:
        self.name, self.count, self.rate = name, count, rate
        self._shots = _of_one_size(shots, name)

    def __next__(self) -> Shot:
        return next(self._shots)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._shots.close()


def open_source(where: str, *, count: bool = False, pipe: IO[bytes] | None = None) -> Source:
    """A video file, a folder of pictures (in the order of their names, numbers by value), a camera's device,
    or `-` for `pipe` (default: stdin). `count` reads a file once before to know its number of frames.

    Raises UsageError where there is nothing, EnvironmentProblem without PyAV or permission, IntegrityError
    where it is no video. Frames then raise IntegrityError where the source is broken, changes its size or
    ends in the middle.
    """
    if not where:
        raise UsageError("no video at '': the name is empty; is a variable of the shell not set?")
    if where == PIPE:
        return _video(Counted(pipe or sys.stdin.buffer), _PIPE_NAME, camera=False)
    path = Path(where)
    try:
        mode = path.stat().st_mode
    except PermissionError as e:
        raise EnvironmentProblem(f"may not read {where}: check its permissions") from e
    except (OSError, ValueError) as e:
        raise UsageError(
            f"no video at {where!r}: give a video file, a folder of pictures, or - for a pipe"
        ) from e
    if stat.S_ISDIR(mode):
        return _folder(path)
    if stat.S_ISCHR(mode):
        return _video(str(path), str(path), camera=True)
    held = None
    if count and stat.S_ISREG(mode):
        held = _counted(path)
    try:
        file = path.open("rb")
    except PermissionError as e:
        raise EnvironmentProblem(f"may not read {where}: check its permissions") from e
    except OSError as e:
        raise UsageError(f"cannot read {where}: {e.strerror}") from e
    return _video(Counted(file), str(path), camera=False, count=held)


def _folder(path: Path) -> Source:
    pictures = folder_pictures(path)
    return Source(folder_shots(pictures), name=str(path), count=len(pictures), rate=None)


def folder_pictures(path: Path) -> list[Path]:
    """A folder's pictures in order: by their names, numbers by value. Raises UsageError where there is none,
    EnvironmentProblem without permission.
    """
    try:
        entries = (entry for entry in path.iterdir() if not entry.is_dir())
        names = [entry.name for entry in entries if entry.suffix.lower() in _PICTURES]
    except PermissionError as e:
        raise EnvironmentProblem(f"may not read {path}: check its permissions") from e
    if not names:
        raise UsageError(f"{path} holds no picture: give a folder of frames ({', '.join(sorted(_PICTURES))})")
    names.sort(key=_by_number)
    return [path / name for name in names]


def folder_shots(pictures: Sequence[Path]) -> Iterator[Shot]:
    """Pictures as shots, each loaded when it is asked for. Raises IntegrityError for one that is gone."""
    for picture in pictures:
        try:
            yield Shot(load_image(picture), None)
        except UsageError as e:
            raise IntegrityError(f"{e}; it was among the folder's frames") from e


def _by_number(name: str) -> list[int | str]:
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def _counted(path: Path) -> int | None:
    """A file's frames, decoded and let go: far quicker than looking at them. None for one that is broken."""
    try:
        with path.open("rb") as file, _video(Counted(file), str(path), camera=False) as source:
            return sum(1 for _ in source)
    except (PamEdgeError, OSError):
        return None  # what is wrong is said when it is read


def _video(file: Counted | str, name: str, *, camera: bool, count: int | None = None) -> Source:
    av = _av()
    try:
        if camera:
            container = av.open(file, format="v4l2")
        else:
            container = av.open(file, metadata_errors="replace", options={"format_whitelist": _FORMATS})
    except (av.FFmpegError, OSError, ValueError) as e:
        if camera:
            raise EnvironmentProblem(f"cannot open the camera {name} ({_why(e)}); {_CAMERAS}") from e
        raise IntegrityError(
            f"{name} is no video that can be read ({_why(e)}): it is damaged, empty, or of another format"
        ) from e
    if not container.streams.video:
        container.close()
        raise IntegrityError(f"{name} holds no video{_kinds(container)}")
    stream = container.streams.video[0]
    rate = float(stream.average_rate) if stream.average_rate else None
    read = file if isinstance(file, Counted) else None
    return Source(_shots(container, stream, name, read), name=name, count=count, rate=rate)


def _shots(container: Any, stream: Any, name: str, read: Counted | None) -> Iterator[Shot]:
    av, times, done, end = _av(), _Times(), 0, 0
    stream.thread_type = "AUTO"

    def frames() -> Iterator[Any]:
        nonlocal end
        for packet in container.demux(stream):
            if packet.size:
                end = (packet.pos or 0) + packet.size
            yield from packet.decode()

    try:
        for frame in frames():
            if frame.is_corrupt:
                raise IntegrityError(_broken(name, done, "frame is damaged or cut short"))
            if frame.width * frame.height > MAX_PIXELS or max(frame.width, frame.height) > MAX_SIDE:
                raise IntegrityError(f"{name}: frames of {frame.width}x{frame.height} pixels are too large")
            since = times.take(frame.time)
            picture = frame.to_image()
            if frame.rotation % 360:
                picture = picture.rotate(frame.rotation, expand=True)
            yield Shot(picture, since)
            done += 1
        missing = _missing(container, stream, done, times)
        if container.format.name == "yuv4mpegpipe" and read and read.bytes > end > 0:
            missing = "it ends in the middle of a frame"  # of which this reader says nothing
    except (av.FFmpegError, OSError) as e:
        raise IntegrityError(_broken(name, done, _why(e))) from e
    finally:
        container.close()
    if missing:
        raise IntegrityError(_broken(name, done, missing))


def _missing(container: Any, stream: Any, done: int, times: _Times) -> str:
    """What a source that ended should have had by its own header; nothing where it is whole."""
    duration = None
    if stream.duration and stream.time_base:
        duration = float(stream.duration * stream.time_base)
    elif container.duration and len(container.streams) == 1:  # else another stream may be the longer one
        duration = container.duration / 1e6
    part = None  # of the duration
    if duration is not None and duration > 0 and times.last is not None:
        part = (times.last + 2 * times.gap) / duration
    if stream.frames:
        # A trimmed file counts frames that are not to be shown: its time tells that it is whole.
        short = done < stream.frames * 0.98 - 1 and (part is None or part < 0.98)
        return f"it should have {stream.frames} frames" if short else ""
    return "" if part is None or part >= 0.9 else f"it should last {duration:.1f} s, not {times.last:.1f}"


@dataclass
class _Times:
    """When the latest frame was, and the longest time between two, in seconds since the first."""

    first: float | None = None
    last: float | None = None
    gap: float = 0.0

    def take(self, time: float | None) -> float | None:
        """A frame's time as seconds since the first's."""
        if time is None:
            return None
        self.first = time if self.first is None else self.first
        since = max(0.0, time - self.first)
        self.gap = max(self.gap, since - (self.last or 0.0))
        self.last = since
        return since


def _of_one_size(shots: Iterator[Shot], name: str) -> Generator[Shot, None, None]:
    """The shots, the first of which says what size they have. A generator, so that it can be closed."""
    first: tuple[int, int] | None = None
    index = 0
    try:
        for shot in shots:
            first = shot.picture.size if first is None else first
            if shot.picture.size != first:
                (w, h), (w0, h0) = shot.picture.size, first
                raise IntegrityError(
                    f"{name}: frame {index} is {w}x{h} pixels, those before it are {w0}x{h0}; "
                    "bring all frames to one size"
                )
            yield shot
            index += 1
    finally:
        close = getattr(shots, "close", None)
        if close is not None:
            close()
    if first is None:
        raise IntegrityError(f"{name} holds no frame")


def _broken(name: str, done: int, why: str) -> str:
    if not done and name == _PIPE_NAME:
        return f"{name} gives no frame ({why}); of an mp4 whose index is at its end, give the file itself"
    if not done:
        return f"{name} gives no frame: {why}"
    return f"{name} breaks off after {done} frames: {why}; what was done until there is kept"


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def _kinds(container: Any) -> str:
    kinds = ", ".join(sorted({stream.type for stream in container.streams}))
    return f", only {kinds}" if kinds else ": it is empty but for its header"


def _av() -> Any:
    try:
        import av
    except ImportError as e:
        raise EnvironmentProblem("videos need PyAV: pip install 'pam-edge[video]'") from e
    # Its words come back in our errors. No level at all: to weigh one, a decoder's thread would wait for the
    # interpreter, which waits for that thread where a file is let go before its end.
    av.logging.set_level(None)
    return av
