"""Checks of the API's arguments (prompts, tasks, sampling), made before any graph runs.

Every mistake is a `UsageError` that shows a correct call. Knows the bundle's texts, nothing else of a model.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from pam_edge.core.errors import UsageError
from pam_edge.image.preprocess import ImageSource, Prompt, load_mask
from pam_edge.text.decoding import Sampling
from pam_edge.text.tokenization import Lang, Question, Task, Texts

Point = Sequence[float]  # (x, y) or (x, y, label), in pixels
Box = Sequence[float]  # (x0, y0, x1, y1), in pixels
MaskSource = ImageSource  # a mask file, a PIL image, or an array [h, w]
Tasks = Sequence[Task]
Questions = str | Question | Sequence[str | Question]

_CALLS = "point=(x, y), points=[(x, y, 1), (x, y, 0)], box=(x0, y0, x1, y1) or mask=array_or_file"


@dataclass(frozen=True)
class Decoding:
    """How answers are decoded.

    Attributes:
        lang: "en" or "zh".
        sampling: temperature, top_p and seed.
        max_tokens: maximum length of an answer, in tokens.
    """

    lang: Lang
    sampling: Sampling
    max_tokens: int


def read_prompt(
    prompt: Prompt | None,
    *,
    point: Point | None,
    points: Sequence[Point] | None,
    box: Box | None,
    mask: MaskSource | None,
) -> Prompt:
    """Make one `Prompt` from a call's arguments.

    Raises:
        UsageError: there is none, a `Prompt` together with its parts, or a part is invalid.
    """
    parts = [
        name
        for name, v in (("point", point), ("points", points), ("box", box), ("mask", mask))
        if v is not None
    ]
    if prompt is not None:
        if not isinstance(prompt, Prompt):
            raise UsageError(f"the prompt is a {type(prompt).__name__}: give {_CALLS}, or a pam_edge.Prompt")
        if parts:
            raise UsageError(f"give a Prompt or {parts[0]}=, not both")
        return prompt
    if not parts:
        raise UsageError(f"no prompt: give {_CALLS}")
    clicks: list[tuple[float, ...]] = []
    if point is not None:
        clicks.append(_click(point, "point"))
    if points is not None:
        rows = _rows(points, "points", "[(x, y), (x, y, 0)]", single="point=(x, y)")
        clicks += [_click(row, "points") for row in rows]
        if not clicks and box is None and mask is None:
            raise UsageError(f"points=[] holds no click: give {_CALLS}")
    return Prompt(
        points=cast("tuple[tuple[float, float, int], ...]", tuple(clicks)),
        box=None if box is None else _box(box, "box"),
        mask=None if mask is None else load_mask(mask),
    )


def read_boxes(boxes: Sequence[Box], **others: object) -> list[Prompt]:
    """Make one `Prompt` per box.

    Raises:
        UsageError: a box is invalid, or one of `others` (arguments of a single prompt) is given as well.
    """
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise UsageError(f"boxes= gives one result per box: give boxes= or {given[0]}=, not both")
    rows = _rows(boxes, "boxes", "[(x0, y0, x1, y1), ...]", single="box=(x0, y0, x1, y1)")
    return [Prompt(box=_box(row, "boxes")) for row in rows]


def read_tasks(
    task: Task | None, tasks: Tasks | None, question: Questions | None, texts: Texts, lang: Lang
) -> list[Task]:
    """The tasks of a call, followed by its questions; a brief caption if neither is given.

    `tasks=[]` asks for no text.

    Raises:
        UsageError: a task is unknown; the message lists the known ones.
    """
    if task is not None and tasks is not None:
        raise UsageError('give task="brief" or tasks=["brief", "detailed"], not both')
    if isinstance(task, list | tuple):
        raise UsageError(f"task= is one task; for several give tasks={list(task)!r}")
    found: list[Task] = [] if task is None else [task]
    if tasks is not None:
        found += (
            [tasks]
            if isinstance(tasks, str | Question)
            else _sequence(tasks, "tasks", '["brief", "detailed"]')
        )
    if question is not None:
        found += read_questions(question)
    if task is None and tasks is None and question is None:
        found = ["brief"]
    for each in found:
        if not isinstance(each, str | Question):
            raise UsageError(f"a task is a name such as 'brief' or a pam_edge.Question; got {each!r}")
        texts.ids_after(each, lang=lang)
    return found


def read_questions(question: Questions) -> list[Task]:
    """One question, or several, as tasks.

    Raises:
        UsageError: a question is not text.
    """
    several = (
        [question]
        if isinstance(question, str | Question)
        else _sequence(question, "question", '"what is it?"')
    )
    for each in several:
        if not isinstance(each, str | Question):
            raise UsageError(f'a question must be text, question="what is it?"; got {each!r}')
    return [each if isinstance(each, Question) else Question(each) for each in several]


def read_lang(lang: str) -> Lang:
    """Check a language.

    Raises:
        UsageError: PAM does not answer in it.
    """
    languages: tuple[Lang, ...] = ("en", "zh")
    for known in languages:
        if lang == known:
            return known
    raise UsageError(f'lang={lang!r} is unknown: answers come in lang="en" or lang="zh"')


def read_decoding(lang: str, temperature: float, top_p: float, seed: int, max_tokens: int) -> Decoding:
    """Check the arguments of decoding.

    Raises:
        UsageError: a value has the wrong type or is out of range.
    """
    sampling = Sampling(_number(temperature, "temperature"), _number(top_p, "top_p"), _integer(seed, "seed"))
    most = _integer(max_tokens, "max_tokens")
    if most < 1:
        raise UsageError(f"max_tokens={most}: at least 1 is needed for an answer")
    return Decoding(read_lang(lang), sampling, most)


def _click(value: Any, name: str) -> tuple[float, ...]:
    numbers = _coordinates(value, name, "(x, y) or (x, y, label)")
    if len(numbers) not in (2, 3):
        hint = "; for a box give box=(x0, y0, x1, y1)" if len(numbers) == 4 else ""
        raise UsageError(f"{name}: a click is (x, y) or (x, y, label), label 1 or 0; got {value!r}{hint}")
    return numbers


def _box(value: Any, name: str) -> tuple[float, float, float, float]:
    numbers = _coordinates(value, name, "(x0, y0, x1, y1)")
    if len(numbers) != 4:
        raise UsageError(f"{name}: a box is (x0, y0, x1, y1), left, top, right, bottom; got {value!r}")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _coordinates(value: Any, name: str, form: str) -> tuple[float, ...]:
    items = _sequence(value, name, form)
    if any(_is_sequence(item) for item in items):
        several = {"point": "; for several give points=[...]", "box": "; for several give boxes=[...]"}
        raise UsageError(f"{name}: expected one {form}, got {value!r}{several.get(name, '')}")
    return tuple(_number(item, name) for item in items)


def _rows(value: Any, name: str, form: str, *, single: str) -> list[Any]:
    items = _sequence(value, name, form)
    if items and not any(_is_sequence(item) for item in items):
        raise UsageError(
            f"{name}= must be a list, {name}={form}; for a single one give {single}; got {value!r}"
        )
    return items


def _sequence(value: Any, name: str, form: str) -> list[Any]:
    if not _is_sequence(value):
        raise UsageError(f"{name}={value!r}: give {name}={form}")
    return list(cast("Iterable[Any]", value))


def _is_sequence(value: object) -> bool:
    if isinstance(value, list | tuple | range):
        return True
    return hasattr(value, "__array__") and hasattr(value, "__iter__") and np.ndim(cast("Any", value)) > 0


def _number(value: Any, name: str) -> float:
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError) as e:
        raise UsageError(f"{name}: expected a number, got {value!r}") from e


def _integer(value: Any, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError as e:
        raise UsageError(f"{name}: expected an integer, got {value!r}") from e
