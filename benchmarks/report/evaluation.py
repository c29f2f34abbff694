"""The page of an evaluation: one HTML file with everything in it, light and dark, without scripts.

Figures come from the report, pictures from the gallery; this only lays them out.
"""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from pam_edge.benchmarks.quality.cases import DEFINITION, LABEL, Said
from pam_edge.benchmarks.quality.gallery import Example, Gallery
from pam_edge.benchmarks.quality.report import LANGUAGE_NAMES, Cell, KindRow, Report, figures, notes
from pam_edge.benchmarks.report.html import render

_SECTIONS = {
    "worst": ("Where it went wrong", "The lowest scores, one of each kind of object."),
    "random": ("At random", "Drawn at random, not chosen by hand."),
    "best": ("Where it went well", "The highest scores, one of each kind of object."),
}
_TILES = (("category right", "category"), ("colour right", "colour"), ("definition exact", "definition"))
_TASKS = {LABEL: "category", DEFINITION: "definition", "brief": "brief", "detailed": "detailed"}
_WORD = re.compile(r"[\u3400-\u9fff\uff00-\uffef]|\s+|[^\s\u3400-\u9fff\uff00-\uffef]+")

Column = tuple[str, str | None]  # a figure, and its language where it has one


@dataclass(frozen=True)
class _Tile:
    name: str
    cells: Sequence[tuple[str, Cell]]  # language ("" where there is none) and figure


@dataclass(frozen=True)
class _Section:
    title: str
    about: str
    examples: Sequence[Example]

    @property
    def has_truth(self) -> bool:
        return any(example.truth is not None for example in self.examples)


@dataclass(frozen=True)
class _Answer:
    sign: str  # right, wrong or open
    task: str
    lang: str
    text: Markup | str  # differences from the truth marked
    truth: Markup | str  # empty where the answer equals it


def page(report: Report, gallery: Gallery) -> str:
    """The whole document."""
    langs = list(report.languages)
    tiles = [_Tile("click mIoU", [("", report.click_iou)]), _Tile("box mIoU", [("", report.box_iou)])]
    for name, of in _TILES:
        tiles.append(_Tile(name, [(lang, getattr(words, of)) for lang, words in report.languages.items()]))
    columns: list[Column] = [("click", None), ("box", None)]
    columns += [(name, lang) for name in ("category", "colour", "definition") for lang in langs]
    return render(
        "evaluation.html.j2",
        report=report,
        title=f"{report.bundle['variant']} on {report.bundle['target']}: quality",
        data=_data(report),
        tiles=tiles,
        langs=langs,
        language_names=LANGUAGE_NAMES,
        figures=figures(report),
        notes=notes(report),
        sections=[_Section(*_SECTIONS[name], examples) for name, examples in gallery.sections() if examples],
        columns=[c for c in columns if any(_cell(kind, c).value is not None for kind in report.kinds)],
        cell_of=_cell,
        answers_of=_answers,
        grade=_grade,
        data_url=_data_url,
        seconds=", ".join(f"{name} {seconds:.0f} s" for name, seconds in report.seconds.items()),
        tools=", ".join(f"{name} {version}" for name, version in sorted(report.bundle["tools"].items())),
    )


def _data(report: Report) -> str:
    data = report.data
    counts = f"{report.cases:,} regions in {report.pictures:,} pictures"
    if data["kind"] == "world":
        return (
            f"{counts}: scenes of the rendered world, seed {data['seed']}, whose combinations of kind, "
            f"colour and pattern training never saw. One click ({data['click']}) and one box a region."
        )
    left = f"; {data['videos_left_out']} video records left out" if data["videos_left_out"] else ""
    return f"{counts} of {data['file']}{left}."


def _cell(kind: KindRow, column: Column) -> Cell:
    name, lang = column
    found = getattr(kind, f"{name}_iou" if lang is None else name)
    cell: Cell = found if lang is None else found[lang]
    return cell


def _grade(iou: float) -> str:
    return "good" if iou >= 0.9 else "fair" if iou >= 0.7 else "bad"


def _answers(example: Example) -> list[list[_Answer]]:
    """The answers, a list a language."""
    langs = dict.fromkeys(one.ask.lang for one in example.said)
    return [[_answer(one) for one in example.said if one.ask.lang == lang] for lang in langs]


def _answer(said: Said) -> _Answer:
    """The answer, with what differs from the truth marked, and the truth where they differ."""
    answer, truth = said.answer.text.strip(), said.ask.truth.strip()
    close = said.ask.task not in (LABEL, DEFINITION) and said.right is not False
    sign = "right" if answer == truth or (said.right and not close) else "open" if close else "wrong"
    task = _TASKS.get(said.ask.task) or (said.ask.question or said.ask.task)
    marked = (answer, "") if answer == truth else _marked(answer, truth)
    return _Answer(sign, task, said.ask.lang, *marked)


def _marked(answer: str, truth: str) -> tuple[Markup, Markup]:
    a, b = _WORD.findall(answer), _WORD.findall(truth)
    mine, theirs = Markup(), Markup()
    for what, i0, i1, j0, j1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        old, new = escape("".join(a[i0:i1])), escape("".join(b[j0:j1]))
        mine += old if what == "equal" or not old else Markup("<del>%s</del>") % old
        theirs += new if what == "equal" or not new else Markup("<ins>%s</ins>") % new
    return mine, theirs


def _data_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
