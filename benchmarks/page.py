"""The page of an evaluation: one HTML file with everything in it, readable in light and dark, without
scripts.

Figures come from the report, pictures from the gallery; this only lays them out.
"""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Sequence
from html import escape

from pam_edge.benchmarks.cases import DEFINITION, LABEL, Said
from pam_edge.benchmarks.gallery import Example, Gallery
from pam_edge.benchmarks.page_style import STYLE
from pam_edge.benchmarks.quality_report import LANGUAGE_NAMES, Cell, Report, figures, notes

_SECTIONS = {
    "worst": ("Where it went wrong", "The lowest scores, one of each kind of thing."),
    "random": ("At random", "Drawn by dice, not by hand."),
    "best": ("Where it went well", "The highest scores, one of each kind of thing."),
}
_TASKS = {LABEL: "category", DEFINITION: "definition", "brief": "brief", "detailed": "detailed"}
_WORD = re.compile(r"[\u3400-\u9fff\uff00-\uffef]|\s+|[^\s\u3400-\u9fff\uff00-\uffef]+")


def page(report: Report, gallery: Gallery) -> str:
    """The whole document."""
    title = f"{report.bundle['variant']} on {report.bundle['target']}: quality"
    body = [
        _header(report),
        _tiles(report),
        _table(report),
        *(_section(name, examples) for name, examples in gallery.sections() if examples),
        _kinds(report),
        _footer(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>"
        '<input type="checkbox" id="truth" checked>\n<main>' + "\n".join(body) + "</main></body></html>\n"
    )


def _header(report: Report) -> str:
    bundle, weights = report.bundle, report.bundle["weights"]
    chips = [bundle["target"], bundle["runtime"], bundle["scheme"]]
    warning = (
        "<p class=warning>This bundle holds random weights: never trained, its answers mean nothing.</p>"
        if weights["kind"] == "random"
        else ""
    )
    return (
        f"<header><h1>{escape(bundle['variant'])}</h1><p class=chips>"
        + "".join(f"<span>{escape(str(chip))}</span>" for chip in chips)
        + f"</p><p class=lead>{escape(_data(report))}</p>{warning}</header>"
    )


def _data(report: Report) -> str:
    data = report.data
    counts = f"{report.cases:,} things in {report.pictures:,} pictures"
    if data["kind"] == "world":
        return (
            f"{counts}: scenes of the rendered world, seed {data['seed']}, whose combinations of kind, "
            f"colour and pattern training never saw. One click ({data['click']}) and one box a thing."
        )
    left = f"; {data['videos_left_out']} video records left out" if data["videos_left_out"] else ""
    return f"{counts} of {data['file']}{left}."


def _tiles(report: Report) -> str:
    tiles = [("click mIoU", [("", report.click_iou)]), ("box mIoU", [("", report.box_iou)])]
    for name, of in (
        ("category right", "category"),
        ("colour right", "colour"),
        ("definition exact", "definition"),
    ):
        tiles.append((name, [(lang, getattr(words, of)) for lang, words in report.languages.items()]))
    cells = []
    for name, values in tiles:
        lines = "".join(
            f"<span><b>{_big(cell, percent=bool(lang))}</b>{f'<i>{escape(lang)}</i>' if lang else ''}</span>"
            for lang, cell in values
        )
        cells.append(f"<div class=tile><h3>{name}</h3><p>{lines}</p></div>")
    return f"<section class=tiles>{''.join(cells)}</section>"


def _big(cell: Cell, *, percent: bool) -> str:
    if cell.value is None:
        return "<small>not measured</small>"
    return f"{100 * cell.value:.1f}<small>%</small>" if percent else f"{cell.value:.3f}"


def _table(report: Report) -> str:
    langs = list(report.languages)
    head = "".join(f"<th>{LANGUAGE_NAMES.get(lang, lang)}" for lang in langs)
    rows = []
    for name, cells in figures(report):
        if "" in cells:
            row = f'<td colspan="{len(langs)}">{_value(cells[""])}'
        else:
            row = "".join(f"<td>{_value(cells.get(lang))}" for lang in langs)
        rows.append(f"<tr><th scope=row>{escape(name)}{row}</tr>")
    remarks = (
        "<li>In brackets: over how many. CIDEr: of what the true captions themselves score. METEOR, as "
        "papers print it, is of the whole corpus and falls far below 1 at its first wrong caption; so the "
        "mean of single captions stands beside it."
    )
    remarks += "".join(f"<li>{escape(note)}" for note in notes(report))
    if report.cut_off:
        remarks += f"<li>{report.cut_off} answers were cut off at {report.max_tokens} tokens"
    return (
        f"<section><h2>Every figure</h2><div class=scroll><table class=figures><thead><tr><th>{head}</thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f"<ul class=notes>{remarks}</ul></section>"
    )


def _value(cell: Cell | None) -> str:
    if cell is None:
        return ""
    if cell.value is None:
        return f'<span class="none" title="{escape(cell.note)}">not measured</span>'
    most = "" if cell.most is None else f"of {cell.most:.4f} "
    return f"{cell.value:.4f} <small>{most}({cell.n:,})</small>"


def _section(name: str, examples: Sequence[Example]) -> str:
    title, about = _SECTIONS[name]
    toggle = (
        '<label for="truth" class=toggle><span></span>true outline</label>'
        if any(e.truth is not None for e in examples)
        else ""
    )
    return (
        f"<section><div class=head><h2>{title}</h2>{toggle}</div><p class=about>{about}</p>"
        f"<div class=cards>{''.join(map(_card, examples))}</div></section>"
    )


def _card(example: Example) -> str:
    width, height = example.size
    ratio = f'width="{width}" height="{height}"'
    truth = (
        ""
        if example.truth is None
        else f'<img class=truth {ratio} alt="" src="{_data_url("png", example.truth)}">'
    )
    ious = [(n, v) for n, v in (("click", example.click_iou), ("box", example.box_iou)) if v is not None]
    chips = "".join(f'<span class="{_grade(v)}">{n} {v:.2f}</span>' for n, v in ious)
    alt = escape(f"{example.kind}, the model's mask tinted")
    return (
        f'<article><div class=picture style="aspect-ratio:{width}/{height}">'
        f'<img {ratio} alt="{alt}" loading="lazy" src="{_data_url("jpeg", example.picture)}">{truth}</div>'
        f"<div class=words><h3>{escape(example.kind)} <span class=ious>{chips}</span></h3>"
        f"{_words(example.said)}<p class=name>{escape(example.name)}</p>"
        "</div></article>"
    )


def _grade(iou: float) -> str:
    return "good" if iou >= 0.9 else "fair" if iou >= 0.7 else "bad"


def _words(said: Sequence[Said]) -> str:
    """The answers, a list a language."""
    langs = dict.fromkeys(one.ask.lang for one in said)
    lists = ("".join(_said(one) for one in said if one.ask.lang == lang) for lang in langs)
    return "".join(f"<dl>{entries}</dl>" for entries in lists)


def _said(said: Said) -> str:
    """The answer, with what differs from the truth marked, and the truth below where they differ."""
    answer, truth, lang = said.answer.text.strip(), said.ask.truth.strip(), said.ask.lang
    close = said.ask.task not in (LABEL, DEFINITION) and said.right is not False
    sign = "right" if answer == truth or (said.right and not close) else "open" if close else "wrong"
    task = _TASKS.get(said.ask.task) or (said.ask.question or said.ask.task)
    if answer == truth:
        words = f"<dd lang={lang}>{escape(answer)}</dd>"
    else:
        mine, theirs = _marked(answer, truth)
        words = f"<dd lang={lang}>{mine or '<em>nothing</em>'}</dd><dd class=true lang={lang}>{theirs}</dd>"
    return f'<div class="{sign}"><dt>{escape(task)}</dt>{words}</div>'


def _marked(answer: str, truth: str) -> tuple[str, str]:
    a, b = _WORD.findall(answer), _WORD.findall(truth)
    mine, theirs = [], []
    for what, i0, i1, j0, j1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        old, new = escape("".join(a[i0:i1])), escape("".join(b[j0:j1]))
        mine.append(old if what == "equal" or not old else f"<del>{old}</del>")
        theirs.append(new if what == "equal" or not new else f"<ins>{new}</ins>")
    return "".join(mine), "".join(theirs)


def _kinds(report: Report) -> str:
    langs = list(report.languages)
    columns: list[tuple[str, str | None]] = [("click", None), ("box", None)]
    columns += [(name, lang) for name in ("category", "colour", "definition") for lang in langs]
    columns = [c for c in columns if any(_of(kind, c).value is not None for kind in report.kinds)]
    head = "".join(f"<th>{name}{f' <i>{lang}</i>' if lang else ''}" for name, lang in columns)
    rows = "".join(
        f"<tr><th scope=row>{escape(kind.kind)}<td>{kind.cases}"
        + "".join(f"<td>{_bar(_of(kind, column))}" for column in columns)
        for kind in report.kinds
    )
    return (
        "<section><h2>By kind of thing</h2><div class=scroll><table class=kinds>"
        f"<thead><tr><th>kind<th>things{head}</thead><tbody>{rows}</tbody></table></div></section>"
    )


def _of(kind: object, column: tuple[str, str | None]) -> Cell:
    name, lang = column
    found = getattr(kind, f"{name}_iou" if lang is None else name)
    cell: Cell = found if lang is None else found[lang]
    return cell


def _bar(cell: Cell) -> str:
    if cell.value is None:
        return "<span class=none>-</span>"
    return f'<span class="bar {_grade(cell.value)}" style="--v:{cell.value:.3f}">{cell.value:.3f}</span>'


def _footer(report: Report) -> str:
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report.seconds.items())
    tools = ", ".join(f"{name} {version}" for name, version in sorted(report.bundle["tools"].items()))
    weights = str(report.bundle["weights"]["source"])
    lines = [
        f"{escape(parts)}.",
        f"Weights: {escape(weights)}. Made with {escape(tools or 'unknown tools')}.",
        f"bundle.json sha256 <code>{escape(report.bundle['sha256'])}</code>",
    ]
    return "<footer>" + "".join(f"<p>{line}</p>" for line in lines) + "</footer>"


def _data_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
