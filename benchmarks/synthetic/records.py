"""PAM's annotation format, JSON lines: the records, and a reader that says which line is wrong.

One image record is one region; its conversation may hold several questions. A video record is a stream of
events. Two optional fields are ours: `segmentation` (a COCO run-length mask) and, per frame of an event,
`segmentations`. Unknown fields are other people's and left alone. Knows nothing of the rendered world.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError
from pam_edge.image import coco_rle

MAX_LINE = 16 << 20  # bytes


class Rle(msgspec.Struct, frozen=True):
    """A mask as COCO writes it: `size` [h, w] and the compressed `counts` string."""

    size: tuple[int, int]
    counts: str


class Turn(msgspec.Struct, frozen=True, rename={"speaker": "from"}):
    """One side of a conversation."""

    speaker: Literal["human", "gpt"]
    value: str


class ImageRecord(msgspec.Struct, frozen=True, tag_field="type", tag="image"):
    """One region of one picture. `bbox` [x, y, w, h], `points` [x, y] in pixels, `labels` 1 or 0 a point."""

    image: Annotated[str, Meta(min_length=1)]
    bbox: tuple[float, float, float, float] | None
    points: tuple[tuple[float, float], ...] | None
    labels: tuple[int, ...] | None
    conversations: Annotated[tuple[Turn, ...], Meta(min_length=2)]
    segmentation: Rle | UnsetType = UNSET


class EventRecord(msgspec.Struct, frozen=True):
    """One segment of a stream: frames, caption, and [[x1, y1, x2, y2]] of the target on the first frame.

    `pred` is a model's caption, in results. `segmentations` has the target's mask per frame, None if away.
    """

    event_id: int
    frames: Annotated[tuple[str, ...], Meta(min_length=1)]
    gt: str
    box: tuple[tuple[float, float, float, float], ...]
    pred: str | UnsetType = UNSET
    segmentations: tuple[Rle | None, ...] | UnsetType = UNSET


class VideoRecord(msgspec.Struct, frozen=True, tag_field="type", tag="video"):
    """A stream: frames of its events lie under `image_root`."""

    image_root: str
    annotations: Annotated[tuple[EventRecord, ...], Meta(min_length=1)]


Record = ImageRecord | VideoRecord
_DECODER: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def as_rle(mask: NDArray[np.bool_]) -> Rle:
    """A mask bool [H, W] for a record."""
    return Rle((mask.shape[0], mask.shape[1]), coco_rle.encode(mask))


def as_mask(coded: Rle) -> NDArray[np.bool_]:
    """A record's mask, bool [H, W]. Raises IntegrityError where it is none."""
    return coco_rle.decode(coded.counts, coded.size)


def read_annotations(path: Path, image_root: Path) -> tuple[Record, ...]:
    """Every record of a file, its pictures known to be there.

    Raises like `numbered_records`, and IntegrityError naming the line where a picture is missing or lies
    outside `image_root`.
    """
    records: list[Record] = []
    for number, record in numbered_records(path):
        require_pictures(record, image_root, where=f"{path}, line {number}")
        records.append(record)
    return tuple(records)


def require_pictures(record: Record, image_root: Path, *, where: str) -> None:
    """Raises IntegrityError, with `where` in front, for a picture that is missing or outside `image_root`."""
    try:
        for picture in pictures_of(record, image_root):
            if not picture.is_file():
                raise IntegrityError(f"no picture {picture}")
    except IntegrityError as e:
        raise IntegrityError(f"{where}: {e}") from e


def numbered_records(path: Path) -> Iterator[tuple[int, Record]]:
    """The records of a file with their line numbers, from 1; blank lines are skipped, pictures not looked at.

    Raises UsageError where there is no such file, EnvironmentProblem where it may not be read, IntegrityError
    naming the line for a record that breaks the format.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}: give a file of JSON lines in PAM's format")
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE + 1), b""), start=1):
                if len(line) > MAX_LINE:
                    raise IntegrityError(f"{path}, line {number} is longer than {MAX_LINE >> 20} MiB")
                if not line.strip():
                    continue
                try:
                    record = _DECODER.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
                    raise IntegrityError(f"{path}, line {number}: {e}") from e
                yield number, record
    except OSError as e:
        raise EnvironmentProblem(f"cannot read {path}: {e.strerror}; check its permissions") from e


def pictures_of(record: Record, image_root: Path) -> tuple[Path, ...]:
    """Where the pictures of a record are. Raises IntegrityError for a path that leads out of `image_root`."""
    if isinstance(record, ImageRecord):
        return (_inside(image_root, record.image),)
    folder = _inside(image_root, record.image_root)
    return tuple(_inside(folder, frame) for event in record.annotations for frame in event.frames)


def _inside(root: Path, name: str) -> Path:
    place = Path(os.path.normpath(root / name))
    if not place.is_relative_to(os.path.normpath(root)):
        raise IntegrityError(f"picture {name} lies outside {root}")
    return place
