"""A file in PAM's annotation format (`synthetic/records.py` reads its lines) as cases for an evaluation.

One line is one region of one picture with questions and answers; questions are told apart by the words of the
bundle's tasks, any other is asked as it is. Masks come from the optional field `segmentation`; without it no
mask can be scored. Everything is checked before the first picture is looked at, and what is wrong is named by
its line. Video records are counted and left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import UNSET
from PIL import ExifTags, Image

from pam_edge.benchmarks.quality.cases import LABEL, QUESTION, Ask, Case, Picture, Source
from pam_edge.benchmarks.synthetic.records import ImageRecord, as_mask, numbered_records, pictures_of
from pam_edge.core.errors import IntegrityError, PamEdgeError, UsageError
from pam_edge.image.preprocess import FORMATS, Prompt, encode_prompt, load_image
from pam_edge.text.tokenization import Lang

SHOWN = 5  # faults listed; the rest are counted

Size = tuple[int, int]  # width, height
Tasks = Mapping[Lang, Mapping[str, str]]  # language to task to its words


@dataclass(frozen=True)
class _Line:
    number: int
    record: ImageRecord
    asks: tuple[Ask, ...]


def annotated_source(path: Path, image_root: Path, *, langs: Sequence[Lang], tasks: Tasks) -> Source:
    """Check a file of annotations and its pictures; the cases in the languages asked for.

    Raises UsageError where file or folder is missing or holds nothing to evaluate, IntegrityError naming the
    lines that are broken, EnvironmentProblem where something may not be read.
    """
    if not image_root.is_dir():
        raise UsageError(f"no folder {image_root}: give the folder that the data's image paths start from")
    known = {words.strip(): (lang, task) for lang, of in tasks.items() for task, words in of.items()}
    by_picture: dict[str, list[_Line]] = {}
    images = videos = 0
    for number, record in numbered_records(path):
        if not isinstance(record, ImageRecord):
            videos += 1
            continue
        images += 1
        try:
            asks = tuple(ask for ask in _asks(record, known) if ask.lang in langs)
        except IntegrityError as e:
            raise IntegrityError(f"{path}, line {number}: {e}") from e
        if asks:
            by_picture.setdefault(record.image, []).append(_Line(number, record, asks))
    if not images:
        what = f"{videos} video records and no image" if videos else "no record"
        raise UsageError(f"{path} holds {what}: there is nothing to evaluate")
    if not by_picture:
        raise UsageError(f"{path} asks nothing in {', '.join(langs)}: give another --lang")
    places = _checked(by_picture, image_root, path)

    def pictures() -> Iterator[Picture]:
        for name, lines in by_picture.items():
            image = load_image(places[name])
            yield Picture(name, image, tuple(_case(line, image.size) for line in lines))

    about = {
        "kind": "annotations",
        "file": path.name,
        "records": sum(map(len, by_picture.values())),
        "videos_left_out": videos,
    }
    return Source(about=about, count=len(by_picture), pictures=pictures)


def _asks(record: ImageRecord, known: Mapping[str, tuple[Lang, str]]) -> Iterator[Ask]:
    turns = record.conversations
    if len(turns) % 2 or any(t.speaker != ("human", "gpt")[i % 2] for i, t in enumerate(turns)):
        raise IntegrityError("a conversation is human and gpt by turns, human first, gpt last")
    for human, gpt in zip(turns[::2], turns[1::2], strict=True):
        question = human.value.replace("<image>", "").strip()
        if not question:
            raise IntegrityError("a question is empty")
        lang, task = known.get(question, (_language(question), QUESTION))
        yield Ask(task, lang, gpt.value, question if task == QUESTION else None)


def _checked(by_picture: Mapping[str, Sequence[_Line]], image_root: Path, path: Path) -> dict[str, Path]:
    """Where the pictures are: every one is there, and every prompt and mask fits. Only headers are read."""
    faults: list[str] = []
    places: dict[str, Path] = {}
    for name, lines in by_picture.items():
        try:
            (places[name],) = pictures_of(lines[0].record, image_root)
            size = _size(places[name])
        except IntegrityError as e:
            faults.append(f"line {lines[0].number}: {e}")
            continue
        except FileNotFoundError:
            faults.append(f"line {lines[0].number}: no picture {name} under {image_root}")
            continue
        except Exception as e:  # PIL raises nearly anything on damaged input
            faults.append(f"line {lines[0].number}: {name} is no picture that can be read ({e})")
            continue
        for line in lines:
            try:
                _check(_case(line, size), size)
            except PamEdgeError as e:
                faults.append(f"line {line.number}: {e}")
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise IntegrityError(f"{path} cannot be used:\n  " + "\n  ".join(faults[:SHOWN]) + more)
    return places


def _size(place: Path) -> Size:
    """Size of the upright picture, from its header alone."""
    Image.init()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # load_image has a limit of its own
        with Image.open(place, formats=[f for f in FORMATS if f in Image.OPEN]) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (height, width) if turned else (width, height)


def _case(line: _Line, size: Size) -> Case:
    record = line.record
    points = record.points or ()
    labels = record.labels if points and record.labels is not None else (1,) * len(points)
    if len(labels) != len(points):
        raise IntegrityError(f"{len(points)} points have {len(labels)} labels; each needs one")
    box = None
    if record.bbox is not None:
        x, y, w, h = record.bbox
        box = (_near(x, 0), _near(y, 0), _near(x + w, size[0]), _near(y + h, size[1]))
    if not points and box is None:
        raise IntegrityError("neither points nor bbox: nothing says what is meant")
    labelled = [ask.truth for ask in line.asks if ask.task == LABEL]
    return Case(
        name=f"line {line.number}",
        kind=labelled[0] if labelled else "(no category given)",
        clicks=tuple((x, y, label) for (x, y), label in zip(points, labels, strict=True)),
        box=box,
        mask=None if record.segmentation is UNSET else as_mask(record.segmentation),
        asks=line.asks,
    )


def _check(case: Case, size: Size) -> None:
    width, height = size
    if case.clicks:
        encode_prompt(Prompt(points=case.clicks), size=(height, width), image_size=16, slots=None)
    if case.box is not None:
        encode_prompt(Prompt(box=case.box), size=(height, width), image_size=16, slots=None)
    if case.mask is not None and case.mask.shape != (height, width):
        h, w = case.mask.shape
        raise IntegrityError(f"its mask is {w}x{h} pixels, the picture {width}x{height}")


def _near(at: float, edge: int) -> float:
    """Boxes of real data reach past the edge by a rounding; anything more is left for the check to refuse."""
    beyond = -1 <= at < 0 if edge == 0 else edge < at <= edge + 1
    return float(edge) if beyond else at


def _language(text: str) -> Lang:
    return "zh" if any("\u4e00" <= c <= "\u9fff" for c in text) else "en"
