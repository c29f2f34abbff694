"""Words of the command line to what the run side takes: clicks, boxes, tasks, a place for a picture.

Says what is wrong in the words the user wrote. Knows no model and prints nothing.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pam_edge.core.errors import EnvironmentProblem, UsageError, cannot_write
from pam_edge.image.preprocess import Prompt, load_mask
from pam_edge.render.image_writer import PICTURES
from pam_edge.text.tokenization import Lang, Question, Task, Texts
from pam_edge.video.stream import Captions


def read_prompt(points: Sequence[str], box: str | None, mask: Path | None) -> Prompt:
    """`x,y` or `x,y,0|1` each, `x0,y0,x1,y1`, and a picture of a mask. Raises UsageError otherwise."""
    if not points and box is None and mask is None:
        raise UsageError("nothing is pointed at: give --point x,y, --box x0,y0,x1,y1 or --mask FILE")
    corners = None
    if box is not None:
        x0, y0, x1, y1 = _numbers(box, "--box", "x0,y0,x1,y1", (4,))
        corners = (x0, y0, x1, y1)
    return Prompt(
        points=tuple(_point(text) for text in points),
        box=corners,
        mask=None if mask is None else load_mask(mask),
    )


def read_objects(points: Sequence[str], boxes: Sequence[str], mask: Path | None) -> dict[int, Prompt]:
    """What is pointed at in a video, objects numbered from 1: each box is one; clicks and a mask are of one
    object, with at most one box. Raises UsageError otherwise.
    """
    if len(boxes) < 2:
        return {1: read_prompt(points, boxes[0] if boxes else None, mask)}
    if points or mask is not None:
        raise UsageError("several --box are several objects: --point and --mask go with one --box at most")
    return {i: read_prompt([], box, None) for i, box in enumerate(boxes, start=1)}


def read_plan(captions: str, every: str) -> tuple[Captions, int | None]:
    """How to caption a video, and frames of a segment: None to cut where something changes. Raises
    UsageError.
    """
    known: tuple[Captions, ...] = ("stream", "clip", "none")
    chosen = [way for way in known if way == captions]
    if not chosen:
        raise UsageError(f"--caption {captions!r}: it is {', '.join(known[:-1])} or {known[-1]}")
    if every == "change":
        return chosen[0], None
    if not every.isdecimal() or int(every) < 1:
        raise UsageError(f"--every {every!r}: it is a number of frames, or change")
    return chosen[0], int(every)


def read_tasks(tasks: str | None, question: str | None) -> list[Task]:
    """`a,b,c` and a free question, in that order; with neither, a brief caption. Raises UsageError."""
    found: list[Task] = []
    if tasks is not None:
        found += [name.strip() for name in tasks.split(",")]
        if not all(found):
            raise UsageError(f"--task {tasks!r} names an empty task; write --task recognize,brief")
    if question is not None:
        found.append(Question(question))
    return found or ["brief"]


def language(lang: str, texts: Texts, tasks: Sequence[Task]) -> Lang:
    """The language, known to have every task. Raises UsageError that lists what the bundle has."""
    known: tuple[Lang, ...] = ("en", "zh")
    for found in known:
        if found == lang:
            for task in tasks:
                texts.ids_after(task, lang=found)
            return found
    raise UsageError(f"--lang {lang!r}: answers come in {' or '.join(known)}")


def check_picture_place(path: Path) -> None:
    """Find out before slow work whether a picture can be written there. Raises like `check_place`."""
    check_place(path, "--out", endings=tuple(PICTURES))


def check_place(path: Path, option: str, *, endings: Sequence[str] = ()) -> None:
    """Find out before slow work whether a file can be written there. Raises UsageError, EnvironmentProblem,
    WontFitError.
    """
    if endings and path.suffix.lower() not in endings:
        raise UsageError(f"{option} {path}: the name has to end in {', '.join(endings)}")
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder; name a file")
    if not path.parent.is_dir():
        raise EnvironmentProblem(f"{option} {path}: there is no folder {path.parent}; make it first")
    try:
        with tempfile.TemporaryFile(dir=path.parent):  # the only way to know; it leaves nothing behind
            pass
    except OSError as e:
        raise cannot_write(path, e) from e


def check_apart(source: str, places: Mapping[str, Path | None]) -> None:
    """Find out before anything is written that no result would replace the source, or another result. Raises
    UsageError.
    """
    taken = {os.path.realpath(source): "the source"}
    for option, path in places.items():
        if path is None:
            continue
        if other := taken.get(os.path.realpath(path)):
            raise UsageError(f"{option} {path} is {other}: name another file")
        taken[os.path.realpath(path)] = f"the file of {option}"


def _point(text: str) -> tuple[float, float, int]:
    x, y, *label = _numbers(text, "--point", "x,y or x,y,0 or x,y,1", (2, 3))
    if label and label[0] not in (0, 1):
        raise UsageError(f"--point {text!r}: the third number is 1 for this, 0 for not this")
    return x, y, int(label[0]) if label else 1


def _numbers(text: str, option: str, form: str, counts: Sequence[int]) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in counts:
        raise UsageError(f"{option} {text!r} is not of the form {form} (numbers in pixels, no blanks)")
    return values
