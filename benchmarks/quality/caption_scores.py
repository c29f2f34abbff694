"""METEOR and CIDEr of captions, through `pycocoevalcap`: the package PAM's own evaluation uses.

METEOR 1.5 runs as the package's Java program with its English parameters; it knows no Chinese, so Chinese
captions are compared character by character, exact matches only. CIDEr's n-gram weights come from the
captions compared here, so it is a number about one corpus. Both read words without case and punctuation
(`metrics.words`). What cannot be measured here is a reason in words, never a number. This module knows no
pictures.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pam_edge.benchmarks.quality.metrics import words

Pair = tuple[str, str]  # predicted, true
_Coco = dict[int, list[str]]
_MISSING = 'pycocoevalcap is not installed; pip install "pam-edge[eval]"'


@dataclass(frozen=True)
class Score:
    """A corpus score, or why there is none. METEOR 0 to 1, CIDEr 0 to 10 (papers print both times 100).

    METEOR of a corpus, the figure papers print, adds up matches and their order over all captions: perfect
    ones give 1, but a single wrong one among hundreds takes it far below. `mean` is that of the single
    captions. CIDEr is a mean already; captions shorter than four words stay below 10: `most` is what the true
    captions score.
    """

    value: float | None
    note: str = ""
    mean: float | None = None
    most: float | None = None


class Meteor:
    """METEOR over any number of corpora with one Java process, which is started for the first."""

    def __init__(self) -> None:
        self._scorer: Any = None
        self._reason = "" if shutil.which("java") else "METEOR is a Java program and there is no java here"

    def score(self, pairs: Sequence[Pair]) -> Score:
        """METEOR of a corpus."""
        if not pairs:
            return Score(None, "no captions")
        if self._scorer is None and not self._reason:
            self._start()
        if self._reason:
            return Score(None, self._reason)
        try:
            value, each = self._scorer.compute_score(*_as_coco(pairs))
        except (OSError, ValueError):  # the program died: its pipe is broken or its answer no number
            self._reason = "METEOR's Java program failed; it needs Java 8 or newer and 2 GB of memory"
            with suppress(OSError):  # or its clean-up would try, and complain on stderr
                self._scorer.meteor_p.stdin.close()
            return Score(None, self._reason)
        finally:
            if self._scorer.lock.locked():  # left so after an error, its clean-up would wait for ever
                self._scorer.lock.release()
        return Score(float(value), mean=sum(each) / len(each))

    def _start(self) -> None:
        try:
            from pycocoevalcap.meteor.meteor import Meteor as Scorer
        except ImportError:
            self._reason = _MISSING
            return
        try:
            self._scorer = Scorer()
        except OSError as e:
            self._reason = f"METEOR's Java program does not start: {e.strerror}"


def cider(pairs: Sequence[Pair]) -> Score:
    """CIDEr-D of a corpus (n up to 4, sigma 6). Needs two different true captions: with one, every weight is
    0.
    """
    if not pairs:
        return Score(None, "no captions")
    if len({true for _, true in pairs}) < 2:
        return Score(None, "CIDEr needs captions of at least two kinds: its weights tell them apart")
    try:
        from pycocoevalcap.cider.cider import Cider
    except ImportError:
        return Score(None, _MISSING)
    true, predicted = _as_coco(pairs)
    value, most = (Cider().compute_score(true, given)[0] for given in (predicted, true))
    return Score(float(value), most=float(most))


def _as_coco(pairs: Sequence[Pair]) -> tuple[_Coco, _Coco]:
    """True and predicted captions as the package takes them: a list of sentences each, words spaced."""
    true = {i: [" ".join(words(t))] for i, (_, t) in enumerate(pairs)}
    predicted = {i: [" ".join(words(p))] for i, (p, _) in enumerate(pairs)}
    return true, predicted
