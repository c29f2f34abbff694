"""What an evaluation found: the records behind its JSON, and the same as a table for people.

Every figure says over how many cases it was taken; one that was not measured has no value and says why.
`benchmarks/quality/pictures.py` fills these. Computes nothing but rounding.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec

from pam_edge.bundle.bundle import Bundle, sha256_of
from pam_edge.bundle.manifest import MANIFEST
from pam_edge.render.tables import clean

SCHEMA = 1
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese"}


class Cell(msgspec.Struct, frozen=True):
    """One figure: `value` over `n` cases, or None and a `note` that says why; a note beside a value qualifies
    it.

    `most` is what perfect answers would score, where that is not simply 1.
    """

    value: float | None
    n: int
    note: str = ""
    most: float | None = None


class Captions(msgspec.Struct, frozen=True):
    """Captions of one task. METEOR 0 to 1, CIDEr 0 to 10; `colour`: share that names the object's first."""

    meteor: Cell  # of the corpus, as papers print it
    meteor_mean: Cell  # mean of the captions'
    cider: Cell
    colour: Cell


class Language(msgspec.Struct, frozen=True):
    """Everything about words in one language; shares and means are 0 to 1, `similarity` -1 to 1."""

    category: Cell  # share of categories named exactly
    similarity: Cell  # mean cosine of sentence embeddings of predicted and true category
    semantic_iou: Cell  # mean overlap of the words of predicted and true category
    colour: Cell  # share of captions, of whatever task, that name the right colour
    definition: Cell  # share of definitions that match exactly
    captions: dict[str, Captions]


class KindRow(msgspec.Struct, frozen=True):
    """One kind of object; shares by language."""

    kind: str
    cases: int
    click_iou: Cell
    box_iou: Cell
    category: dict[str, Cell]
    colour: dict[str, Cell]
    definition: dict[str, Cell]


class Report(msgspec.Struct, frozen=True):
    """The whole evaluation; `to_json` writes it."""

    schema: int
    bundle: dict[str, Any]  # variant, target, runtime, scheme, weights, tools
    data: dict[str, Any]  # as the source describes itself
    pictures: int
    cases: int
    click_iou: Cell  # mean IoU of the masks that clicks select
    box_iou: Cell
    languages: dict[str, Language]
    kinds: tuple[KindRow, ...]
    cut_off: int  # answers that reached `max_tokens`
    max_tokens: int
    seconds: dict[str, float]  # total, and the parts of it
    machine: dict[str, str] = {}  # processor, kind of CPU as engines see it, engine; rows of before have none


def to_json(report: Report) -> bytes:
    """UTF-8 JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def figures(report: Report) -> list[tuple[str, dict[str, Cell]]]:
    """Rows of the summary: a figure's name and its cell by language ("" where it has none)."""
    rows: list[tuple[str, dict[str, Cell]]] = [
        ("click mIoU", {"": report.click_iou}),
        ("box mIoU", {"": report.box_iou}),
    ]
    of = report.languages
    rows += [
        ("category right", {lang: of[lang].category for lang in of}),
        ("semantic similarity", {lang: of[lang].similarity for lang in of}),
        ("semantic IoU", {lang: of[lang].semantic_iou for lang in of}),
        ("colour named right", {lang: of[lang].colour for lang in of}),
        ("definition exact", {lang: of[lang].definition for lang in of}),
    ]
    for task in dict.fromkeys(task for words in of.values() for task in words.captions):
        held = {lang: of[lang].captions[task] for lang in of if task in of[lang].captions}
        rows.append((f"{task}: METEOR", {lang: cells.meteor for lang, cells in held.items()}))
        rows.append((f"{task}: METEOR, mean", {lang: cells.meteor_mean for lang, cells in held.items()}))
        rows.append((f"{task}: CIDEr", {lang: cells.cider for lang, cells in held.items()}))
    return rows


def shown(cell: Cell | None) -> str:
    """A figure as people read it; never a number that was not measured."""
    if cell is None:
        return ""
    if cell.value is None:
        return "not measured"
    return f"{cell.value:.4f}" + (f" of {cell.most:.4f}" if cell.most is not None else "")


def notes(report: Report) -> list[str]:
    """Why figures are missing or what qualifies them, each reason once."""
    found: dict[str, list[str]] = {}
    for name, cells in figures(report):
        for lang, cell in cells.items():
            if cell.note:
                found.setdefault(cell.note, []).append(f"{name} ({lang})" if lang else name)
    return [f"{', '.join(names)}: {note}" for note, names in found.items()]


def to_text(report: Report) -> str:
    """Summary and table of kinds for a terminal."""
    langs = list(report.languages)
    names = [LANGUAGE_NAMES.get(lang, lang) for lang in langs]
    rows = [["", *names]]
    for name, cells in figures(report):
        row = (
            [shown(cells[""]), *[""] * (len(langs) - 1)]
            if "" in cells
            else [shown(cells.get(lg)) for lg in langs]
        )
        rows.append([name, *row])
    head = ["kind", "cases", "click", "box"]
    for lang in langs:
        head += [f"category {lang}", f"colour {lang}", f"definition {lang}"]
    table = [head]
    for kind in report.kinds:
        row = [clean(kind.kind), str(kind.cases), _short(kind.click_iou), _short(kind.box_iou)]
        for lang in langs:
            row += [_short(of.get(lang)) for of in (kind.category, kind.colour, kind.definition)]
        table.append(row)
    parts = [
        f"{report.cases} objects in {report.pictures} pictures, {report.seconds['total']:.0f} s",
        figure_columns(rows),
        figure_columns(table),
        *map(clean, notes(report)),
    ]
    if report.cut_off:
        parts.append(f"{report.cut_off} answers were cut off at {report.max_tokens} tokens")
    return "\n\n".join(parts)


def _short(cell: Cell | None) -> str:
    return "-" if cell is None or cell.value is None else f"{cell.value:.3f}"


def figure_columns(rows: Sequence[Sequence[str]]) -> str:
    """A table's lines; all columns but the first are flush right."""
    widths = [max(_width(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        first = row[0] + " " * (widths[0] - _width(row[0]))
        rest = (" " * (w - _width(text)) + text for w, text in zip(widths[1:], row[1:], strict=True))
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def about_bundle(bundle: Bundle) -> dict[str, Any]:
    """What a figure belongs to: the bundle's rows of the manifest, and the sha256 of bundle.json, which fixes
    the rest.
    """
    manifest = bundle.manifest
    return {
        "variant": manifest.variant.name,
        "target": manifest.target,
        "runtime": manifest.runtime,
        "scheme": manifest.scheme,
        "weights": {"kind": manifest.weights.kind, "source": manifest.weights.source},
        "sha256": sha256_of(bundle.folder / MANIFEST),
        "tools": dict(manifest.tools),
    }
