"""What the language stage is taught: regions of pictures and clips, with questions and answers as tokens.

Pictures: every task of a region, each in one of the two languages, and questions in a person's own words.
Clips: segments with the caption before as history, or none, forwards and backwards; whole clips. Reads what
`features` and `film_features` saw; knows no model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pam_edge.benchmarks.world import (
    COLOURS,
    KINDS,
    LANGUAGES,
    PATTERNS,
    TASKS,
    Combo,
    Language,
    random_question,
)
from pam_edge.benchmarks.world.moves import EVENTS
from pam_edge.captions import FRAMES, frame_choice
from tools.nano.data import open_rendered, texts_of
from tools.nano.features import open_features
from tools.nano.film_features import WHOLE, open_film_features
from tools.nano.film_helpers import CELLS, NO_EVENT, Truth, pose_numbers
from tools.nano.films import Told, open_films, told
from tools.nano.segment_loss import CLASSES
from tools.nano.video_words import BACKWARDS, told_backwards
from tools.nano.words import Asked, Questions

WITHOUT_HISTORY = 0.2  # share of later segments that are told as if nothing had been before
BACKWARDS_SHARE = 0.4
WHOLE_SHARE = 0.3  # of the clips that are read, told as a whole
WARPED_SHARE = 0.6  # of segments, their frames at other times: 480 clips are soon known by heart
GRAIN = 0.15  # of noise on what frames show, whose numbers are about 1


class Lesson(NamedTuple):
    """B regions with their questions. Of pictures maps [B, C, E, E], of clips [B, F, C, E, E]."""

    maps: Tensor
    tokens: Tensor
    asked: list[list[Asked]]
    wanted: dict[str, Tensor]  # class numbers [B]; none for clips
    truth: Truth | None = None  # for clips


class Regions:
    """All regions of a feature folder with their questions."""

    def __init__(self, features: Path, scenes: Path, questions: Questions) -> None:
        self.features = open_features(features)
        self.rows = np.flatnonzero(self.features.which[:, 1] >= 0)
        self.texts, self.objects = texts_of(scenes), open_rendered(scenes).objects
        self.questions = questions

    def draw(self, rng: np.random.Generator, count: int, device: torch.device) -> Lesson:
        """A random batch."""
        rows = np.sort(rng.choice(self.rows, count, replace=False))
        maps, tokens, which = (field[rows] for field in self.features)
        things = self.objects[which[:, 0], which[:, 1]]
        asked = []
        for (scene, number), thing in zip(which.tolist(), things, strict=True):
            texts, order = self.texts[scene][number], rng.permutation(len(TASKS)).tolist()
            spoken = rng.integers(len(LANGUAGES), size=len(TASKS)).tolist()
            chosen = [(TASKS[t], LANGUAGES[spoken[t]]) for t in order]
            branches = [self.questions.asked(task, lang, texts[lang][task]) for task, lang in chosen]
            shown = Combo(
                KINDS[thing["kind"]].name, COLOURS[thing["colour"]].name, PATTERNS[thing["pattern"]]
            )
            asked.append([*branches, self.free(rng, shown)])
        wanted = {n: torch.from_numpy(things[n].astype(np.int64)).to(device) for n in CLASSES}
        seen = (torch.from_numpy(maps).to(device).float(), torch.from_numpy(tokens).to(device).float())
        return Lesson(*seen, asked, wanted)

    def free(self, rng: np.random.Generator, thing: Combo) -> Asked:
        """A question in a person's own words."""
        said = random_question(rng, thing, LANGUAGES[int(rng.integers(len(LANGUAGES)))])
        return Asked(self.questions.free(said.question), self.questions.answer(said.answer))


class Clips:
    """All followed segments and clips of a folder with their captions."""

    def __init__(self, features: Path, films: Path, questions: Questions) -> None:
        self.features, self.told = open_film_features(features), told(films)
        self.poses = {seed: pose_numbers(seed) for seed in self.told}
        self.drawn = open_films(films)
        self.parts = np.argwhere(self.features.done[:, :WHOLE])
        self.wholes = np.flatnonzero(self.features.done[:, WHOLE])
        self.questions = questions

    def draw(self, rng: np.random.Generator, count: int, device: torch.device) -> Lesson:
        """A random batch, each clip asked in both languages."""
        maps, tokens, asked, truths = [], [], [], []
        for _ in range(count):
            if rng.random() < WHOLE_SHARE:
                film, part = int(rng.choice(self.wholes)), WHOLE
            else:
                film, part = self.parts[int(rng.integers(len(self.parts)))].tolist()
            said = self.told[film]
            turned = part != WHOLE and said.events[part] in BACKWARDS and rng.random() < BACKWARDS_SHARE
            order = frame_order(rng, turned=turned, warped=part != WHOLE and rng.random() < WARPED_SHARE)
            maps.append(np.asarray(self.features.maps[film, part])[order])
            tokens.append(np.asarray(self.features.tokens[film, part])[order])
            alone = part == WHOLE or part == 0 or rng.random() < WITHOUT_HISTORY
            asked.append([self.asked(said, part, lang, alone=alone, turned=turned) for lang in LANGUAGES])
            truths.append(self.truth(film, part, order, turned=turned))
        seen = [torch.from_numpy(np.stack(field)).to(device).float() for field in (maps, tokens)]
        draw = torch.Generator(device).manual_seed(int(rng.integers(1 << 31)))
        noise = torch.empty_like(seen[0]).normal_(0, GRAIN * float(rng.random()), generator=draw)
        seen[0] = seen[0] + noise
        truth = Truth(*(torch.from_numpy(np.stack(field)).to(device) for field in zip(*truths, strict=True)))
        return Lesson(seen[0], seen[1], asked, {}, truth)

    def frames(self, rng: np.random.Generator, count: int, device: torch.device) -> tuple[Tensor, ...]:
        """Single frames of as many segments, the target in sight: maps [N, C, E, E], mask tokens [N, 2, C],
        and of `Truth` what is shown [N, 8, 8] and the pose [N, 4].
        """
        rows: list[tuple[NDArray[Any], ...]] = []
        while len(rows) < count:
            film, part = self.parts[int(rng.integers(len(self.parts)))].tolist()
            at = int(rng.integers(FRAMES))
            shown, pose, seen, _ = self.truth(film, part, np.array([at]), turned=False)
            if seen[0]:
                held = self.features.maps[film, part, at], self.features.tokens[film, part, at]
                rows.append((*held, shown[0], pose[0]))
        fields = zip(*rows, strict=True)
        return tuple(torch.from_numpy(np.stack(field)).to(device).float() for field in fields)

    def truth(
        self, film: int, part: int, order: NDArray[np.int64], *, turned: bool
    ) -> tuple[NDArray[Any], ...]:
        """One clip's fields of `Truth`, its frames in that order."""
        pose, events, number = self.poses[film], self.told[film].events, NO_EVENT
        if part == WHOLE:
            frames = np.array(frame_choice(len(pose)))[order]
        else:
            frames = order + part * FRAMES
            number = EVENTS.index(BACKWARDS[events[part]] if turned else events[part])
        target = self.drawn.film[film]["target"]
        whose = self.drawn.owner[film, : len(pose)][frames]
        cell = whose.shape[1] // CELLS
        shown = (whose == target).reshape(-1, CELLS, cell, CELLS, cell).mean((2, 4), dtype=np.float32)
        return shown, pose[frames], shown.any((1, 2)).astype(np.float32), np.array(number)

    def asked(self, said: Told, part: int, lang: Language, *, alone: bool, turned: bool) -> Asked:
        """The question about a segment, or about a whole clip, and its answer."""
        before = "" if alone else said.parts[part - 1][lang]
        text = said.whole[lang] if part == WHOLE else (said.alone if alone else said.parts)[part][lang]
        if turned:
            text = told_backwards(text, said.events[part], lang)
        stressed = () if part == WHOLE else self.questions.happening(text, lang)
        return Asked(self.questions.video(lang, before), self.questions.answer(text), stressed)


def frame_order(rng: np.random.Generator, *, turned: bool, warped: bool) -> NDArray[np.int64]:
    """Which of a segment's frames are read, in which order: faster at first or at last where `warped`."""
    at = np.linspace(0, 1, FRAMES) ** (float(np.exp(rng.uniform(-0.5, 0.5))) if warped else 1.0)
    order = np.rint(at * (FRAMES - 1)).astype(np.int64)
    return order[::-1] if turned else order
