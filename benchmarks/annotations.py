"""PAM's annotation format (JSON lines) as cases for an evaluation.

One line is one region of one picture: `{"type": "image", "image": path, "bbox": [x, y, w, h] or null,
"points": [[x, y], ...] or null, "labels": [...], "conversations": [{"from": "human", "value":
"<image>\\n..."}, {"from": "gpt", "value": ...}]}` (`Perceive-Anything/PAM`, data format of its training
annotations). Ours adds one optional field, `"segmentation": {"size": [h, w], "counts": COCO run-length
string}`: without it no mask can be scored. Everything is checked before the first picture is looked at, and
what is wrong is named by its line. Video records are counted and left out.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from PIL import ExifTags, Image

from pam_edge import rle
from pam_edge.benchmarks.cases import LABEL, QUESTION, Ask, Case, Picture, Source
from pam_edge.errors import EnvironmentProblem, IntegrityError, PamEdgeError, UsageError
from pam_edge.preprocess import FORMATS, Prompt, encode_prompt, load_image
from pam_edge.prompts import Lang

MAX_LINE = 16 << 20  # bytes: a region's text and mask never come near
SHOWN = 5  # faults listed before the rest are only counted

Tasks = Mapping[Lang, Mapping[str, str]]  # language to task to its words


class _Rle(msgspec.Struct, frozen=True):
    size: tuple[int, int]
    counts: str


class _Turn(msgspec.Struct, frozen=True):
    speaker: str = msgspec.field(name="from")
    value: str


class _Image(msgspec.Struct, frozen=True, tag_field="type", tag="image"):
    image: Annotated[str, Meta(min_length=1)]
    conversations: Annotated[list[_Turn], Meta(min_length=2)]
    bbox: tuple[float, float, float, float] | None = None
    points: list[tuple[float, float]] | None = None
    labels: list[int] | None = None
    segmentation: _Rle | None = None


class _Video(msgspec.Struct, frozen=True, tag_field="type", tag="video"):
    annotations: list[Any]


@dataclass(frozen=True)
class _Line:
    number: int
    record: _Image


_DECODER = msgspec.json.Decoder(_Image | _Video)


def read_annotations(path: Path, image_root: Path, *, langs: Sequence[Lang], tasks: Tasks) -> Source:
    """Check a file of annotations and its pictures; cases in the languages asked for.

    `tasks` are the words of the bundle's tasks, by which questions are told apart. Raises UsageError where
    file or folder is missing or holds nothing to evaluate, IntegrityError naming the lines that are broken.
    """
    if not image_root.is_dir():
        raise UsageError(f"no folder {image_root}: give the folder that the data's image paths start from")
    lines, videos = _read(path)
    if not lines:
        what = f"{videos} video records, but no image" if videos else "no record"
        raise UsageError(f"{path} holds {what}: there is nothing to evaluate")
    known = {words.strip(): (lang, task) for lang, of in tasks.items() for task, words in of.items()}
    cases: dict[str, list[tuple[_Line, tuple[Ask, ...]]]] = {}
    for line in lines:
        asks = tuple(ask for ask in _asks(line, known, path) if ask.lang in langs)
        if asks:
            cases.setdefault(line.record.image, []).append((line, asks))
    if not cases:
        raise UsageError(f"{path} holds no question in {', '.join(langs)}: give another --lang")
    _check_pictures(cases, image_root, path)

    def pictures() -> Iterator[Picture]:
        for name, held in cases.items():
            image = load_image(_inside(image_root, name))
            yield Picture(name, image, tuple(_case(line, asks, image.size) for line, asks in held))

    about = {
        "kind": "annotations",
        "file": path.name,
        "records": sum(map(len, cases.values())),
        "videos_left_out": videos,
    }
    return Source(about=about, count=len(cases), pictures=pictures)


def _read(path: Path) -> tuple[list[_Line], int]:
    lines: list[_Line] = []
    faults: list[str] = []
    number = videos = 0
    try:
        with path.open("rb") as f:
            while raw := f.readline(MAX_LINE + 1):
                number += 1
                if len(raw) > MAX_LINE:
                    raise IntegrityError(f"{path}, line {number} is longer than {MAX_LINE >> 20} MiB")
                if not raw.strip():
                    continue
                try:
                    record = _DECODER.decode(raw)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
                    faults.append(f"line {number}: {e}")
                    continue
                if isinstance(record, _Video):
                    videos += 1
                else:
                    lines.append(_Line(number, record))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as e:
        raise UsageError(f"no file {path}: give a file of JSON lines") from e
    except OSError as e:
        raise EnvironmentProblem(f"cannot read {path}: {e.strerror}") from e
    _raise(faults, path)
    return lines, videos


def _asks(line: _Line, known: Mapping[str, tuple[Lang, str]], path: Path) -> Iterator[Ask]:
    turns = line.record.conversations
    for human, gpt in zip(turns[::2], turns[1::2], strict=False):
        if human.speaker != "human" or gpt.speaker != "gpt":
            raise IntegrityError(
                f"{path}, line {line.number}: conversations alternate human and gpt, human first"
            )
        question = human.value.replace("<image>", "").strip()
        if not question:
            raise IntegrityError(f"{path}, line {line.number}: a question is empty")
        lang, task = known.get(question, (_language(question), QUESTION))
        yield Ask(task, lang, gpt.value, question if task == QUESTION else None)


def _check_pictures(
    cases: Mapping[str, list[tuple[_Line, tuple[Ask, ...]]]], image_root: Path, path: Path
) -> None:
    """Every picture is there and every prompt fits it; only headers are read."""
    faults = []
    for name, held in cases.items():
        first = held[0][0].number
        try:
            size = _size(_inside(image_root, name))
        except IntegrityError as e:
            faults.append(f"line {first}: {e}")
            continue
        except FileNotFoundError:
            faults.append(f"line {first}: no picture {name} under {image_root}")
            continue
        except Exception as e:  # PIL raises nearly anything on damaged input
            faults.append(f"line {first}: {name} is no picture that can be read ({e})")
            continue
        for line, asks in held:
            try:
                _check(_case(line, asks, size), size)
            except PamEdgeError as e:
                faults.append(f"line {line.number}: {e}")
    _raise(faults, path)


def _size(place: Path) -> tuple[int, int]:
    """Width and height of the upright picture, from its header alone."""
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # load_image has a limit of its own
        with Image.open(place, formats=[f for f in FORMATS if f in Image.OPEN]) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (height, width) if turned else (width, height)


def _check(case: Case, size: tuple[int, int]) -> None:
    width, height = size
    if case.clicks:
        encode_prompt(Prompt(points=case.clicks), size=(height, width), image_size=16, slots=None)
    if case.box is not None:
        encode_prompt(Prompt(box=case.box), size=(height, width), image_size=16, slots=None)
    if case.mask is not None and case.mask.shape != (height, width):
        h, w = case.mask.shape
        raise IntegrityError(f"its mask is {w}x{h} pixels, the picture {width}x{height}")


def _case(line: _Line, asks: tuple[Ask, ...], size: tuple[int, int]) -> Case:
    record = line.record
    points = record.points or []
    labels = record.labels if record.labels is not None else [1] * len(points)
    if points and len(labels) != len(points):
        raise IntegrityError(f"{len(points)} points have {len(labels)} labels; each needs one")
    box = None
    if record.bbox is not None:
        x, y, w, h = record.bbox
        box = (_near(x, 0), _near(y, 0), _near(x + w, size[0]), _near(y + h, size[1]))
    if not points and box is None:
        raise IntegrityError("neither points nor bbox: nothing says what is meant")
    mask = None
    if record.segmentation is not None:
        mask = rle.decode(record.segmentation.counts, record.segmentation.size)
    labelled = [ask.truth for ask in asks if ask.task == LABEL]
    return Case(
        name=f"line {line.number}",
        kind=labelled[0] if labelled else "(no category given)",
        clicks=tuple((x, y, label) for (x, y), label in zip(points, labels, strict=False)),
        box=box,
        mask=mask,
        asks=asks,
    )


def _near(at: float, edge: int) -> float:
    """Boxes of real data reach past the edge by a rounding; anything more is left for the check to refuse."""
    beyond = -1 <= at < 0 if edge == 0 else edge < at <= edge + 1
    return float(edge) if beyond else at


def _inside(root: Path, name: str) -> Path:
    place = Path(os.path.normpath(root / name))
    if not place.is_relative_to(os.path.normpath(root)):
        raise IntegrityError(f"picture {name} lies outside {root}")
    return place


def _language(text: str) -> Lang:
    return "zh" if any("\u4e00" <= c <= "\u9fff" for c in text) else "en"


def _raise(faults: Sequence[str], path: Path) -> None:
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise IntegrityError(f"{path} cannot be used:\n  " + "\n  ".join(faults[:SHOWN]) + more)
