"""Questions in a person's own words about one object of the world, and their right answers.

Several wordings of each, English and Chinese; what is asked for: name, colour, pattern, use, and whether the
object has a certain colour. Knows no picture and no model.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pam_edge.benchmarks.synthetic.answers import Language, capital
from pam_edge.benchmarks.synthetic.combos import Combo
from pam_edge.benchmarks.synthetic.palette import COLOURS
from pam_edge.benchmarks.synthetic.texts import COLOUR_ZH, PATTERN_ZH, kind_named

SUBJECTS = ("name", "colour", "pattern", "use", "is it")


class Exchange(NamedTuple):
    """One question with its answer; `subject` is one of `SUBJECTS`."""

    subject: str
    question: str
    answer: str


_EN = {
    "name": ("What is this?", "What is this object called?", "What am I pointing at?"),
    "colour": ("What colour is it?", "What color is this?", "Which colour does this object have?"),
    "pattern": ("Does it have a pattern?", "What pattern does it have?", "Is it plain or patterned?"),
    "use": ("What is it used for?", "What does one do with it?", "What is this good for?"),
    "is it": ("Is it {}?", "Is this {}?", "Is the colour of this {}?"),
}
_ZH = {
    "name": ("这是什么？", "这个东西叫什么？", "我指的是什么？"),
    "colour": ("它是什么颜色的？", "这是什么颜色？", "这个东西的颜色是什么？"),
    "pattern": ("它有花纹吗？", "它是什么花纹？", "它是纯色的还是有花纹的？"),
    "use": ("它是用来做什么的？", "这个东西有什么用？", "用它可以做什么？"),
    "is it": ("它是{}的吗？", "这是{}的吗？", "它的颜色是{}吗？"),
}


def random_question(rng: np.random.Generator, obj: Combo, language: Language = "en") -> Exchange:
    """Any question about an object that looks like that, in any wording."""
    subject = SUBJECTS[int(rng.integers(len(SUBJECTS)))]
    return question(subject, obj, language, wording=int(rng.integers(3)), other=int(rng.integers(20)))


def question(
    subject: str, obj: Combo, language: Language = "en", *, wording: int, other: int = 0
) -> Exchange:
    """The question in wording 0, 1 or 2. "is it" asks for the right colour, from `other` 10 on for any."""
    named = COLOURS[other % len(COLOURS)].name if other >= len(COLOURS) else obj.colour
    if language == "zh":
        words = _ZH[subject][wording].format(COLOUR_ZH[named])
        return Exchange(subject, words, _answer_zh(subject, obj, named))
    return Exchange(subject, _EN[subject][wording].format(named), _answer_en(subject, obj, named))


def _answer_en(subject: str, obj: Combo, named: str) -> str:
    entry = kind_named(obj.kind)
    match subject:
        case "name":
            article = "A pair of" if entry.pair else "An" if entry.name[0] in "aeiou" else "A"
            return f"{article} {entry.name}."
        case "colour":
            return f"{capital(obj.colour)}."
        case "pattern":
            return "It is plain." if obj.pattern == "plain" else f"It is {obj.pattern}."
        case "use":
            return entry.function
        case _:
            return "Yes." if named == obj.colour else f"No, it is {obj.colour}."


def _answer_zh(subject: str, obj: Combo, named: str) -> str:
    entry = kind_named(obj.kind)
    match subject:
        case "name":
            return f"一{entry.measure}{entry.zh}。"
        case "colour":
            return f"{COLOUR_ZH[obj.colour]}。"
        case "pattern":
            return "纯色，没有花纹。" if obj.pattern == "plain" else f"{PATTERN_ZH[obj.pattern]}花纹。"
        case "use":
            return entry.function_zh
        case _:
            return "是的。" if named == obj.colour else f"不是，是{COLOUR_ZH[obj.colour]}的。"
