"""What is to be said of an object of a scene, for every task of PAM, in English and Chinese.

Fixed templates: one picture, one answer. `named_colour` and `named_kind` read an answer back for scoring.
Knows no model.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from pam_edge.benchmarks.synthetic.combos import Combo
from pam_edge.benchmarks.synthetic.scene import Scene, WorldObject
from pam_edge.benchmarks.synthetic.texts import (  # fmt: skip
    COLOUR_ZH,
    KINDS,
    PATTERN_ZH,
    PLACE_ZH,
    SIZE_ZH,
    Kind,
    kind_named,
)

Language = Literal["en", "zh"]
Task = Literal["recognize", "explain", "brief", "detailed"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
TASKS: tuple[Task, ...] = get_args(Task)

_PREPOSITION = {"left": "on the left", "right": "on the right", "centre": "in the centre"}


def answer(scene: Scene, index: int, task: Task, language: Language = "en") -> str:
    """The right answer about `scene.objects[index]`."""
    obj = scene.objects[index]
    match task:
        case "recognize":
            return category(obj.kind, language)
        case "explain":
            return explanation(obj.kind, language)
        case "brief":
            return f"{capital(noun_phrase(obj, language))}{_STOP[language]}"
        case "detailed":
            neighbour = None if obj.neighbour is None else scene.objects[obj.neighbour]
            return _detailed_en(obj, neighbour) if language == "en" else _detailed_zh(obj, neighbour)


def category(kind: str, language: Language) -> str:
    """The label alone: "umbrella"."""
    return kind if language == "en" else kind_named(kind).zh


def explanation(kind: str, language: Language) -> str:
    """Label, definition and function, as PAM's explain task asks for."""
    entry = kind_named(kind)
    if language == "en":
        return f"{capital(entry.name)}: {entry.definition} {entry.function}"
    return f"{entry.zh}：{entry.definition_zh}{entry.function_zh}"


def noun_phrase(obj: WorldObject, language: Language, *, size: bool = False, pattern: bool = True) -> str:
    """The object by name, "a red striped umbrella", its size in front where asked for; plain is unsaid."""
    combo = Combo(obj.kind, obj.colour, obj.pattern)
    return combo_phrase(combo, language, size=obj.size if size else None, pattern=pattern)


def combo_phrase(combo: Combo, language: Language, *, size: str | None = None, pattern: bool = True) -> str:
    """A noun phrase for whatever looks like that, be it in a scene or in a clip."""
    entry = kind_named(combo.kind)
    marked = pattern and combo.pattern != "plain"
    if language == "zh":
        front = f"一{entry.measure}" + (f"{SIZE_ZH[size]}的" if size else "")
        return front + COLOUR_ZH[combo.colour] + (PATTERN_ZH[combo.pattern] if marked else "") + entry.zh
    words = [size] if size else []
    words += [combo.colour, *([combo.pattern] if marked else []), combo.kind]
    return _with_article(entry, " ".join(words))


def place_phrase(place: str, language: Language) -> str:
    """The place in words, "at the top left of the picture"."""
    if language == "zh":
        return f"画面的{PLACE_ZH[place]}"
    return f"{_PREPOSITION.get(place, f'at the {place}')} of the picture"


def named_colour(text: str, language: Language) -> str | None:
    """The first colour an answer names, in English; None where it names none."""
    if language == "zh":
        found = [(text.index(zh), colour) for colour, zh in COLOUR_ZH.items() if zh in text]
        return min(found)[1] if found else None
    match = re.search(rf"\b({'|'.join(COLOUR_ZH)})\b", text.lower())
    return match.group(1) if match else None


def named_kind(text: str, language: Language) -> str | None:
    """The first kind an answer names, by its English name; the longest where two begin together."""
    found = []
    for kind in KINDS:
        at = _position(text, kind, language)
        if at >= 0:
            found.append((at, -len(kind.name), kind.name))
    return min(found)[2] if found else None


_STOP: dict[Language, str] = {"en": ".", "zh": "。"}


def _detailed_en(obj: WorldObject, neighbour: WorldObject | None) -> str:
    pair = kind_named(obj.kind).pair
    plain = " without a pattern" if obj.pattern == "plain" else ""
    first = f"{capital(noun_phrase(obj, 'en', size=True))}{plain}."
    where = [] if obj.place is None else [place_phrase(obj.place, "en")]
    if neighbour is not None:
        where.append(f"next to {noun_phrase(neighbour, 'en', pattern=False)}")
    if not where:
        return first
    return f"{first} {'They lie' if pair else 'It lies'} {', '.join(where)}."


def _detailed_zh(obj: WorldObject, neighbour: WorldObject | None) -> str:
    plain = "，没有花纹" if obj.pattern == "plain" else ""
    first = f"{noun_phrase(obj, 'zh', size=True)}{plain}。"
    where = [] if obj.place is None else [f"位于{place_phrase(obj.place, 'zh')}"]
    if neighbour is not None:
        where.append(f"旁边是{noun_phrase(neighbour, 'zh', pattern=False)}")
    return f"{first}它{'，'.join(where)}。" if where else first


def _with_article(entry: Kind, words: str) -> str:
    if entry.pair:
        return f"a pair of {words}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def _position(text: str, kind: Kind, language: Language) -> int:
    if language == "zh":
        return text.find(kind.zh)
    match = re.search(rf"\b{re.escape(kind.name)}\b", text.lower())
    return match.start() if match else -1
