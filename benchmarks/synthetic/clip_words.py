"""What is to be said of a clip: of all of it, and segment by segment with the caption before as history.

A segment's caption continues the one before it: "After moving to the right, the umbrella turns clockwise."
Fixed templates, English and Chinese.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from pam_edge.benchmarks.synthetic.answers import Language, capital, combo_phrase
from pam_edge.benchmarks.synthetic.clips import Clip, Segment
from pam_edge.benchmarks.synthetic.moves import Event
from pam_edge.benchmarks.synthetic.texts import kind_named


class _Words(NamedTuple):
    """An event as it happens, and as it is looked back on. `{side}` and `{by}` are filled in."""

    now: str
    after: str


_EN: dict[Event, _Words] = {
    "move left": _Words("moves to the left", "moving to the left"),
    "move right": _Words("moves to the right", "moving to the right"),
    "move up": _Words("moves upwards", "moving upwards"),
    "move down": _Words("moves downwards", "moving downwards"),
    "turn clockwise": _Words("turns clockwise", "turning clockwise"),
    "turn counterclockwise": _Words("turns counterclockwise", "turning counterclockwise"),
    "grow": _Words("grows larger", "growing larger"),
    "shrink": _Words("becomes smaller", "becoming smaller"),
    "stay": _Words("lies still", "lying still"),
    "covered": _Words("is covered by {by} and appears again", "being covered"),
    "leave and return": _Words("leaves the picture {side} and comes back", "leaving and coming back"),
    "leave": _Words("leaves the picture {side}", "leaving"),
}
_ZH: dict[Event, _Words] = {
    "move left": _Words("向左移动", "向左移动"),
    "move right": _Words("向右移动", "向右移动"),
    "move up": _Words("向上移动", "向上移动"),
    "move down": _Words("向下移动", "向下移动"),
    "turn clockwise": _Words("顺时针转动", "顺时针转动"),
    "turn counterclockwise": _Words("逆时针转动", "逆时针转动"),
    "grow": _Words("逐渐变大", "变大"),
    "shrink": _Words("逐渐变小", "变小"),
    "stay": _Words("静止不动", "静止一会儿"),
    "covered": _Words("被{by}遮住后又重新出现", "被遮住又出现"),
    "leave and return": _Words("从{side}离开画面后又回来", "离开又回来"),
    "leave": _Words("从{side}离开画面", "离开"),
}
_SIDE_EN = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
_SIDE_ZH = {"left": "左侧", "right": "右侧", "top": "上方", "bottom": "下方"}


def event_caption(clip: Clip, language: Language = "en") -> str:
    """Everything that happens, in order, in one sentence."""
    first, *rest = [_happening(segment, language) for segment in clip.segments]
    subject = combo_phrase(clip.target, language)
    if language == "zh":
        middle = "".join(f"，接着{words}" for words in rest[:-1])
        return f"{subject}先{first}{middle}，最后{rest[-1]}。"
    return f"{capital(subject)} {first}{''.join(f', then {words}' for words in rest)}."


def segment_caption(clip: Clip, index: int, language: Language = "en", *, alone: bool = False) -> str:
    """What happens in one segment. The first names the target in full, others start from what was before.

    `alone`: as if there were nothing before.
    """
    happening = _happening(clip.segments[index], language)
    if index == 0 or alone:
        subject = combo_phrase(clip.target, language)
        return f"{subject}{happening}。" if language == "zh" else f"{capital(subject)} {happening}."
    before = (_EN if language == "en" else _ZH)[clip.segments[index - 1].event].after
    again = named_again(clip.target.kind, language)
    return (
        f"在{before}之后，{again}{happening}。"
        if language == "zh"
        else f"After {before}, {again} {happening}."
    )


def named_again(kind: str, language: Language) -> str:
    """An object that has been named before: "the umbrella"."""
    entry = kind_named(kind)
    return entry.zh if language == "zh" else f"the {'pair of ' if entry.pair else ''}{entry.name}"


def history(clip: Clip, index: int, language: Language = "en") -> str | None:
    """The caption before, which the model is told; None for the first segment."""
    return segment_caption(clip, index - 1, language) if index else None


def _happening(segment: Segment, language: Language) -> str:
    words = (_EN if language == "en" else _ZH)[segment.event].now
    by = "" if segment.by is None else combo_phrase(segment.by, language, pattern=False)
    side = (_SIDE_EN if language == "en" else _SIDE_ZH).get(segment.side, "")
    return words.format(by=by, side=side)


def named_event(text: str, language: Language = "en") -> Event | None:
    """The event a segment's caption tells as happening, whatever the side and what covers. None where it
    tells none or more than one; what it looks back on does not count.
    """
    told = list(_reader(language).finditer(_present(text, language)))
    return _event_of(told[0]) if len(told) == 1 else None


def told_subject(text: str, language: Language = "en") -> str:
    """The words for what a segment's caption is about: those before what happens to it, so never what covers
    it. All of a caption that tells no event.
    """
    now = _present(text, language)
    event = _reader(language).search(now)
    return now if event is None else now[: event.start()]


def event_at(text: str, language: Language = "en") -> tuple[int, int]:
    """Where a segment's caption tells what happens: from, to; (0, 0) where it tells nothing."""
    now = _present(text, language)
    found = _reader(language).search(now)
    before = len(text.strip()) - len(now)
    return (0, 0) if found is None else (before + found.start(), before + found.end())


def told_events(text: str, language: Language = "en") -> tuple[Event | None, ...]:
    """The events of a whole clip's caption, in the order of telling; None for a part that tells none, or
    several.
    """
    return tuple(named_event(part, language) for part in text.split(", then " if language == "en" else "，"))


def told_in_full(text: str, clip: Clip, index: int, language: Language = "en") -> bool:
    """Whether a segment's caption tells what happens, with the side it leaves by and what covers it."""
    segment = clip.segments[index]
    return named_event(text, language) == segment.event and _happening(segment, language) in text


def _present(text: str, language: Language) -> str:
    """A caption without what it looks back on: "After moving to the right, "."""
    return re.sub(r"^After .*?, " if language == "en" else "^在.*?之后，", "", text.strip(), count=1)


@lru_cache
def _reader(language: Language) -> re.Pattern[str]:
    """Finds every event that is told, the longer of two that begin together; its group says which."""
    words, sides = (_EN, _SIDE_EN) if language == "en" else (_ZH, _SIDE_ZH)
    edge = r"\b" if language == "en" else ""
    ways = []
    for number, event in sorted(enumerate(words), key=lambda pair: -len(words[pair[1]].now)):
        shape = re.escape(words[event].now)
        shape = shape.replace(r"\{side\}", f"(?:{'|'.join(sides.values())})").replace(
            r"\{by\}", "[^,.，。]+?"
        )
        ways.append(f"(?P<e{number}>{edge}{shape}{edge})")
    return re.compile("|".join(ways), re.IGNORECASE)


def _event_of(found: re.Match[str]) -> Event:
    assert found.lastgroup is not None  # every way has a group
    return tuple(_EN)[int(found.lastgroup[1:])]
