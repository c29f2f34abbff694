"""Text on a picture: fonts that have the characters, and lines that fit a width.

Each character uses the first font that has it: Pillow's own for Latin, then a Chinese font of this machine. A
character that no font has is drawn as an empty box.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import ImageDraw, ImageFont

from pam_edge.core.errors import EnvironmentProblem

_ROOTS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts", "/system/fonts"),
)
# Beginnings of file names, best first: sans-serif faces with simplified Chinese, then wide-ranging ones.
_NAMES = (
    *("notosanscjk-regular", "notosanssc-regular", "notosanscjksc-regular", "sourcehansanssc-regular"),
    *(
        "pingfang",
        "hiragino sans gb",
        "stheiti light",
        "msyh.",
        "droidsansfallback",
        "wqy-microhei",
        "wqy-zenhei",
    ),
    *("notosanscjk", "notosanssc", "simhei", "simsun", "arial unicode", "unifont", "dejavusans."),
)
_NO_TYPE = "this Pillow draws no type (it lacks FreeType): install Pillow's own wheel"
_BREAKS = re.compile(r"(\s+)")
_WIDE = re.compile(r"([⺀-鿿가-힯豈-﫿︰-﹏＀-￯\U00020000-\U0003ffff])")
_NEVER_FIRST = set("，。、！？；：）》」』”’】,.!?;:)]}…")


def find_fonts(roots: Iterable[str] = _ROOTS) -> tuple[Path, ...]:
    """Font files of this machine that widen Pillow's own, best first; empty where there are none."""
    found: list[tuple[int, Path]] = []
    for root in roots:
        for path in Path(root).expanduser().rglob("*.[to]t[fc]"):
            name = path.name.lower()
            rank = next((i for i, start in enumerate(_NAMES) if name.startswith(start)), None)
            if rank is not None:
                found.append((rank, path))
    return tuple(path for _, path in sorted(found))


class Face:
    """A size of type over several font files."""

    def __init__(self, files: Sequence[Path], size: int) -> None:
        """Files that are no fonts are left out. Raises EnvironmentProblem where Pillow can draw no type at
        all.
        """
        try:
            own = ImageFont.load_default(size)
        except (ImportError, OSError) as e:
            raise EnvironmentProblem(_NO_TYPE) from e
        if not isinstance(own, ImageFont.FreeTypeFont):
            raise EnvironmentProblem(_NO_TYPE)
        self._fonts = [own]
        for file in files:
            try:
                self._fonts.append(ImageFont.truetype(str(file), size))
            except OSError:
                continue
        self.size = size
        self.line = round(size * 1.42)
        self._missing = [_picture_of(font, "\U0010ffff") for font in self._fonts]
        self._chosen: dict[str, int | None] = {" ": 0}

    def covers(self, text: str) -> bool:
        """Whether every character has a font."""
        return all(self._choose(c) is not None for c in text if not c.isspace())

    def width(self, text: str) -> float:
        """Length of a line, pixels."""
        return sum(font.getlength(part) for font, part in self._runs(text))

    def wrap(self, text: str, width: float) -> list[str]:
        """Break text into lines that fit: between words, between Chinese characters, inside a word if need
        be.
        """
        lines: list[str] = []
        for paragraph in text.splitlines() or [""]:
            line = ""
            for part in _parts(paragraph):
                if self.width((line + part).rstrip()) <= width or (line and part in _NEVER_FIRST):
                    line += part
                    continue
                if line:
                    lines.append(line.rstrip())
                line = part.lstrip()
                while self.width(line) > width and len(line) > 1:
                    fits = next((n for n in range(len(line) - 1, 1, -1) if self.width(line[:n]) <= width), 1)
                    lines.append(line[:fits])
                    line = line[fits:]
            lines.append(line.rstrip())
        return lines

    def draw(self, canvas: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, *, fill: str) -> None:
        """Write one line; `xy` is the top left corner of its line box."""
        x, y = xy
        baseline = y + (self.line + 0.7 * self.size) / 2
        for font, part in self._runs(text):
            canvas.text((x, baseline), part, font=font, fill=fill, anchor="ls")
            x += font.getlength(part)

    def _runs(self, text: str) -> list[tuple[ImageFont.FreeTypeFont, str]]:
        runs: list[tuple[ImageFont.FreeTypeFont, str]] = []
        for character in text:
            c = character if character.isprintable() else " "
            chosen = self._choose(c)
            font, c = (self._fonts[0], "□") if chosen is None else (self._fonts[chosen], c)
            if runs and runs[-1][0] is font:
                runs[-1] = (font, runs[-1][1] + c)
            else:
                runs.append((font, c))
        return runs

    def _choose(self, character: str) -> int | None:
        if character not in self._chosen:
            self._chosen[character] = next(
                (i for i, font in enumerate(self._fonts) if _picture_of(font, character) != self._missing[i]),
                None,
            )
        return self._chosen[character]


def _parts(paragraph: str) -> list[str]:
    """Pieces between which a line may break; a word keeps the space before it."""
    parts: list[str] = []
    space = ""
    for token in _BREAKS.split(paragraph):
        if not token or token.isspace():
            space = " " if token and parts else ""
            continue
        first, *rest = [p for p in _WIDE.split(token) if p]
        parts += [space + first, *rest]
        space = ""
    return parts


def _picture_of(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    mask = font.getmask(character)
    return repr(mask.size).encode() + bytes(mask)
