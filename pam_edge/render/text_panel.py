"""A panel of words: blocks of labelled text, each with a coloured bar, set beside or below a picture.

Knows type and blocks; nothing of pictures, regions or masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from pam_edge.render.text_layout import Face

PAPER, INK, QUIET = "#fbfaf7", "#1c1c1e", "#8a8a8f"
_NOTE = "Some characters have no font on this machine; for Chinese, install Noto Sans CJK."
_TITLE = 32  # characters: a first text up to this long is set large


@dataclass(frozen=True)
class Block:
    """What is said about one object: (label, text) pairs, a colour, and its number where there are several
    objects.
    """

    colour: tuple[int, int, int]
    words: tuple[tuple[str, str], ...]
    number: int | None = None
    title: bool = True  # whether a short first text is set large


@dataclass(frozen=True)
class _Line:
    face: Face
    text: str
    fill: str
    top: float


@dataclass(frozen=True)
class _Set:
    block: Block
    lines: tuple[_Line, ...]
    height: float


class Panel:
    """Blocks of words, ready to be laid out at any width. `size` is the type's, in pixels."""

    def __init__(self, blocks: Sequence[Block], *, size: int, files: Sequence[Path]) -> None:
        self._blocks = blocks
        self._label, self._text = Face(files, max(9, round(size * 0.68))), Face(files, size)
        self._title = Face(files, round(size * 1.55))
        self._pad, self._gap, self._indent = round(size * 1.3), round(size * 1.1), round(size * 0.9)
        self._size = size
        texts = "".join(text for block in blocks for _, text in block.words)
        self._note = "" if self._text.covers(texts) else _NOTE

    def beside(self, picture: Image.Image) -> Image.Image:
        """The picture with the panel right of it or below: whichever keeps the whole most compact."""
        width, height = picture.size
        choices: list[tuple[float, tuple[int, int], tuple[int, int], list[list[_Set]]]] = []
        for ems in (16, 20, 25, 31, 38):
            panel = ems * self._size
            columns, tall = self._layout(panel, 1)
            total = width + panel, max(height, tall)
            bare = max(0, tall - height) / height  # a strip of paper under the picture
            choices.append((_cost(total) * (1 + bare), total, (width, 0), columns))
        for count in (1, 2, 3):
            if width / count >= 15 * self._size:
                columns, tall = self._layout(width, count)
                total = width, height + tall
                choices.append((_cost(total), total, (0, height), columns))
        _, total, (left, top), columns = min(choices, key=lambda choice: choice[0])
        canvas = Image.new("RGB", total, PAPER)
        canvas.paste(picture, (0, 0))
        self._draw(canvas, left, top, columns)
        return canvas

    def _layout(self, width: int, count: int) -> tuple[list[list[_Set]], int]:
        """Blocks in columns, in order, as even as can be; and the height of it all."""
        column = (width - 2 * self._pad - (count - 1) * self._gap) / count
        sets = [self._set(block, column) for block in self._blocks]
        heights = [s.height for s in sets]
        limits = sorted(
            {sum(heights[a:b]) + (b - a - 1) * self._gap for b in range(len(sets) + 1) for a in range(b)}
        )
        columns: list[list[_Set]] = []
        for limit in limits:
            columns = _fill(sets, limit, self._gap)
            if len(columns) <= count:
                break
        note = (
            len(self._label.wrap(self._note, width - 2 * self._pad)) * self._label.line if self._note else 0
        )
        return columns, round(max(map(self._tall, columns)) + 2 * self._pad + note)

    def _tall(self, column: Sequence[_Set]) -> float:
        return sum(s.height for s in column) + (len(column) - 1) * self._gap

    def _set(self, block: Block, width: float) -> _Set:
        room = width - self._indent
        lines: list[_Line] = []
        y = 0.0
        for i, (label, text) in enumerate(block.words):
            y += self._size * 0.55 if i else 0
            if label:
                lines.append(_Line(self._label, " ".join(label.upper().split()), QUIET, y))
                y += self._label.line
            large = block.title and i == 0 and len(text) <= _TITLE
            face = self._title if large else self._text
            for line in face.wrap(text.strip() or "—", room):
                lines.append(_Line(face, line, INK if text.strip() else QUIET, y))
                y += face.line
        return _Set(block, tuple(lines), y)

    def _draw(self, canvas: Image.Image, left: int, top: int, columns: Sequence[Sequence[_Set]]) -> None:
        pen = ImageDraw.Draw(canvas)
        width = canvas.width - left
        step = (width - 2 * self._pad + self._gap) / max(1, len(columns))
        bar = max(3, round(self._size * 0.22))
        for i, column in enumerate(columns):
            x, y = left + self._pad + i * step, float(top + self._pad)
            for s in column:
                pen.rounded_rectangle((x, y, x + bar, y + s.height), radius=bar / 2, fill=s.block.colour)
                for line in s.lines:
                    line.face.draw(pen, (x + self._indent, y + line.top), line.text, fill=line.fill)
                if s.block.number is not None:
                    self._chip(pen, x + bar / 2, y + self._label.line / 2, s.block)
                y += s.height + self._gap
        y = canvas.height - self._pad * 0.5
        for text in reversed(self._label.wrap(self._note, width - 2 * self._pad) if self._note else []):
            y -= self._label.line
            self._label.draw(pen, (left + self._pad, y), text, fill=QUIET)

    def _chip(self, pen: ImageDraw.ImageDraw, x: float, y: float, block: Block) -> None:
        radius, digits = self._label.line * 0.56, str(block.number)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=block.colour)
        place = x - self._label.width(digits) / 2, y - self._label.line / 2
        self._label.draw(pen, place, digits, fill="white")


def _fill(sets: Sequence[_Set], limit: float, gap: float) -> list[list[_Set]]:
    columns: list[list[_Set]] = [[]]
    used = 0.0
    for s in sets:
        if columns[-1] and used + gap + s.height > limit:
            columns.append([])
        used = used + gap + s.height if columns[-1] else s.height
        columns[-1].append(s)
    return columns


def _cost(size: tuple[int, int]) -> float:
    """Area, dearer the further from a screen's proportions."""
    width, height = size
    return width * height * max(1.0, width / height / 1.9, height / width / 1.15)
