"""One object followed and told segment by segment, as `follow` does it; several languages, tracked once.

Each segment starts from the last mask of the one before, or by memory where the object was out of sight; the
caption before is history, in each language its own. Knows no truth and no metric.
"""

from __future__ import annotations

from collections.abc import Sequence

from pam_edge.image.preprocess import ImageSource, Prompt
from pam_edge.pipeline.pam import Pam
from pam_edge.pipeline.results import Answer
from pam_edge.text.tokenization import Lang
from pam_edge.video.clip_caption import Clip, caption
from pam_edge.video.tracker import Tracked, Tracker

_OBJECT = 1


class Stream:
    """`begin` a segment, `step` through its frames, `end` it; then the next. `start` is the first prompt."""

    def __init__(self, pam: Pam, start: Prompt, *, langs: Sequence[Lang], max_tokens: int) -> None:
        self._pam, self._max_tokens = pam, max_tokens
        self._tracker = Tracker(pam)
        self._again: Prompt | None = start
        self._history = dict.fromkeys(langs, "")
        self._clip: Clip | None = None
        self._latest: Tracked | None = None

    def begin(self, length: int) -> None:
        """A segment of so many frames follows."""
        self._clip = Clip(self._pam, length=length)

    def step(self, picture: ImageSource) -> Tracked:
        """Follow the object onto the next frame of the segment."""
        assert self._clip is not None, "begin a segment first"
        prompts = {}
        if self._again is not None:
            self._tracker.forget(_OBJECT)
            prompts, self._again = {_OBJECT: self._again}, None
        (found,) = self._tracker.step(picture, prompts).objects
        self._clip.add(found)
        self._latest = found
        return found

    def end(self) -> dict[Lang, Answer] | None:
        """The segment's captions by language; None where the object never was in sight in it: nothing is
        said, and what was said before stays history.
        """
        clip, self._clip = self._clip, None
        assert clip is not None and self._latest is not None, "a segment has at least one frame"
        box = self._latest.box
        self._again = None if box is None else Prompt(box=box)
        if not clip.visible:
            return None
        answers = {
            lang: told(self._pam, clip, lang, history=before, max_tokens=self._max_tokens)
            for lang, before in self._history.items()
        }
        self._history = {lang: answer.text for lang, answer in answers.items()}
        return answers


def told(pam: Pam, clip: Clip, lang: Lang, *, history: str = "", max_tokens: int) -> Answer:
    """A clip's finished caption."""
    stream = caption(pam, clip, lang=lang, history=history, max_tokens=max_tokens)
    for _ in stream:
        pass
    (answer,) = stream.answers
    return answer
