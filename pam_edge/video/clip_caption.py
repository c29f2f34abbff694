"""A caption of what happens to an object: which frames of a clip the language model reads, and their tokens.

As PAM reads a clip (arXiv 2506.05302, section 3): 16 frames, the first at scale 1/2, the others at 1/4. A
frame's tokens are computed once, when it comes; where the clip's length is known they are also read at once,
so that little is left to do at its end. Knows nothing of sources and of how objects are followed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pam_edge.core.timing import ms_since
from pam_edge.pipeline.generation import Description, Limits, Prefix
from pam_edge.pipeline.pam import Pam
from pam_edge.runtimes.common.session import Decoder
from pam_edge.text.decoding import Sampling
from pam_edge.text.tokenization import Lang, Texts
from pam_edge.video.tracker import Tracked

Floats = npt.NDArray[np.float32]
FRAMES = 16  # that are read of a clip
KEPT = 32  # frames whose tokens are kept while a clip's length is unknown: 1.7 MB each for PAM-1.5B
TASK = "video"
MAX_HISTORY = 600  # characters of the caption before


def frame_choice(count: int) -> tuple[int, ...]:
    """Which 16 frames are read of a clip of `count` >= 1: the first, and 15 evenly spread over the rest.

    From 16 frames on these are the original's. Under 16, where the original stops with an error, the same
    rule reads some more than once, and a single frame 16 times: the layout stays the one that was trained.
    """
    rest = np.linspace(min(1, count - 1), count - 1, FRAMES - 1, dtype=int)
    return (0, *rest.tolist())


class Clip:
    """One object through one clip, frame by frame.

    `length` is the clip's number of frames; None where that is not known before its end: then every frame's
    tokens are kept up to 32, beyond that every second's, every fourth's and so on; the 16 are of those.
    """

    def __init__(self, pam: Pam, *, length: int | None) -> None:
        self._pam = pam
        self._wanted = None if length is None else frame_choice(length)
        self._stride, self._count, self._read = 1, 0, 0
        self._first: Floats | None = None
        self._kept: dict[int, Floats] = {}
        self._decoder: Decoder | None = None
        self.visible = False  # on any frame so far
        self.timing_ms = {"load": 0.0, "perceiver": 0.0, "prefill": 0.0}

    def __len__(self) -> int:
        return self._count

    def add(self, found: Tracked) -> None:
        """Take the clip's next frame."""
        index, self._count = self._count, self._count + 1
        self.visible = self.visible or found.visible
        if index % self._stride if self._wanted is None else index not in self._wanted:
            return
        self.timing_ms["load"] += self._pam.open_graph("perceiver") + self._pam.open_graph("perceiver_frame")
        clock = time.perf_counter()
        feeds = {"region_embed": found.region_embed, "mask_tokens": found.mask_tokens}
        self._kept[index] = self._pam.run_graph("perceiver_frame", feeds)["frame_tokens"][0]
        if index == 0:
            whole = self._pam.run_graph("perceiver", feeds)["region_tokens"][0]
            # What closes a frame is the same for all, and in no other graph.
            self._first = np.concatenate([whole, self._kept[0][-1:]])
        self.timing_ms["perceiver"] += ms_since(clock)
        if self._wanted is not None:
            self._read_on(self._wanted)
        elif len(self._kept) > KEPT:
            self._stride *= 2
            self._kept = {i: tokens for i, tokens in self._kept.items() if i % self._stride == 0}

    @property
    def chosen(self) -> tuple[int, ...]:
        """The 16 frames that are read, by their place in the clip."""
        if self._wanted is not None and self._wanted[-1] < self._count:
            return self._wanted
        held = list(self._kept)  # all, or what was kept of a clip that ended otherwise than thought
        return tuple(held[i] for i in frame_choice(len(held)))

    def tokens(self) -> list[Floats]:
        """The chosen frames' tokens as the language model reads them: 5,168 in all for PAM."""
        assert self._first is not None, "a clip has at least one frame"
        return [self._first, *(self._kept[i] for i in self.chosen[1:])]

    def prefix(self) -> Prefix:
        """Everything up to the visual tokens' end, in a decoder."""
        if self._wanted is None or self.chosen != self._wanted:
            self._decoder, self._read = None, 0
        before = self.timing_ms["prefill"]
        self._read_on(self.chosen)
        assert self._decoder is not None
        spent = {"load": 0.0, "perceiver": 0.0, "prefill": self.timing_ms["prefill"] - before}
        return Prefix(self._decoder, self._decoder.lengths[0], spent)

    def _read_on(self, chosen: Sequence[int]) -> None:
        """Prefill what has come of the chosen frames, in their order."""
        with self._pam.lock:
            self._read_locked(chosen)

    def _read_locked(self, chosen: Sequence[int]) -> None:
        if self._decoder is None:
            self.timing_ms["load"] += self._pam.open_decoder()
            self._decoder = self._pam.fresh_decoder()
        clock = time.perf_counter()
        while self._read < len(chosen) and chosen[self._read] in self._kept:
            tokens = self._kept[chosen[self._read]]
            if self._read == 0:
                assert self._first is not None
                tokens = np.concatenate([self._decoder.embed(self._pam.texts.ids_before), self._first])
            self._decoder.prefill([tokens])
            self._read += 1
        self.timing_ms["prefill"] += ms_since(clock)


def caption(
    pam: Pam,
    clip: Clip,
    *,
    lang: Lang = "en",
    history: str = "",
    sampling: Sampling | None = None,
    max_tokens: int = 128,
) -> Description:
    """Stream a clip's caption. `history` is the caption of the clip before ("" at a video's start), of which
    the beginning is told, as far as it fits. Nothing is computed before the first piece is asked for.
    """
    told = bounded_history(pam.texts, pam.limits, history, lang=lang, used=_visual(pam) + max_tokens)
    return Description(
        clip.prefix,
        pam.texts,
        tasks=[TASK],
        limits=pam.limits,
        lang=lang,
        sampling=sampling or Sampling(),
        max_tokens=max_tokens,
        history=told,
        lock=pam.lock,
    )


def bounded_history(texts: Texts, limits: Limits, history: str, *, lang: Lang, used: int) -> str:
    """The beginning of the caption before, at most 600 characters, cut further where the bundle's positions
    (of which `used` are taken) would not hold it.
    """
    told = history if len(history) <= MAX_HISTORY else _cut(history, MAX_HISTORY)
    while told and used + len(texts.ids_after(TASK, lang=lang, history=told)) > limits.max_length:
        told = _cut(told, len(told) // 2)
    return told


def _cut(text: str, most: int) -> str:
    """At most so many characters, whole words where there are any."""
    cut = text[:most]
    return cut.rsplit(" ", 1)[0] if " " in cut else cut


def _visual(pam: Pam) -> int:
    variant = pam.bundle.manifest.variant
    return len(pam.texts.ids_before) + variant.region_tokens + 1 + (FRAMES - 1) * variant.frame_tokens
