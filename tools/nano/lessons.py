"""What the language stage is taught: regions of pictures and clips, with questions and answers as tokens.

Pictures: every task of a region, each in one of the two languages, and questions in a person's own words.
Clips: segments with the caption before as history, or none, or one with another name, forwards and backwards;
whole clips; single frames, beside which regions of pictures are read as frames. Reads what `features` and
`film_features` saw; knows no model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pam_edge.benchmarks.synthetic import (
    COLOURS,
    KINDS,
    LANGUAGES,
    PATTERNS,
    TASKS,
    Combo,
    Language,
    random_question,
)
from pam_edge.benchmarks.synthetic.combos import combos
from pam_edge.benchmarks.synthetic.moves import EVENTS
from pam_edge.video.clip_caption import FRAMES, frame_choice
from tools.nano.data import open_rendered, shown_in_cells, texts_of
from tools.nano.features import open_features
from tools.nano.film_features import WHOLE, open_film_features
from tools.nano.film_helpers import NO_EVENT, Truth, film_poses
from tools.nano.films import Told, open_films, told
from tools.nano.segment_loss import CLASSES
from tools.nano.video_words import BACKWARDS, renamed, told_backwards
from tools.nano.words import Asked, Questions

WITHOUT_HISTORY = 0.2  # share of later segments that are told as if nothing had been before
BACKWARDS_SHARE = 0.4
RENAMED_SHARE = 0.25  # of segments with history: a stream keeps to the name it began with, right or wrong
WHOLE_SHARE = 0.2  # of the clips that are read, told as a whole
WARPED_SHARE = 0.6  # of segments, their frames at other times: clips are soon known by heart
TURN_WEIGHT = 0.5  # how often a segment that turns is read, others 1: more of them were drawn
GRAIN = 0.15  # of noise on what frames show, whose numbers are about 1


class Frames(NamedTuple):
    """Single frames of N objects, each in sight."""

    maps: Tensor  # [N, C, E, E]
    tokens: Tensor  # [N, 2, C]
    shown: Tensor  # [N, 8, 8], as in `Truth`
    pose: Tensor  # [N, 4]


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
        self.texts, self.rendered = texts_of(scenes), open_rendered(scenes)
        self.questions = questions

    def draw(self, rng: np.random.Generator, count: int, device: torch.device) -> Lesson:
        """A random batch."""
        rows = np.sort(rng.choice(self.rows, count, replace=False))
        maps, tokens, which = (field[rows] for field in self.features)
        objects = self.rendered.objects[which[:, 0], which[:, 1]]
        asked = []
        for (scene, number), obj in zip(which.tolist(), objects, strict=True):
            texts, order = self.texts[scene][number], rng.permutation(len(TASKS)).tolist()
            spoken = rng.integers(len(LANGUAGES), size=len(TASKS)).tolist()
            chosen = [(TASKS[t], LANGUAGES[spoken[t]]) for t in order]
            branches = [self.questions.asked(task, lang, texts[lang][task]) for task, lang in chosen]
            shown = Combo(KINDS[obj["kind"]].name, COLOURS[obj["colour"]].name, PATTERNS[obj["pattern"]])
            asked.append([*branches, self.free(rng, shown)])
        wanted = {n: torch.from_numpy(objects[n].astype(np.int64)).to(device) for n in CLASSES}
        return Lesson(as_floats(maps, device), as_floats(tokens, device), asked, wanted)

    def frames(self, rng: np.random.Generator, count: int, device: torch.device) -> Frames:
        """Random regions as if each were a clip's frame: there are more objects in pictures than in clips."""
        rows = np.sort(rng.choice(self.rows, count, replace=False))
        maps, tokens, which = (field[rows] for field in self.features)
        shown = [shown_in_cells(self.rendered.owner[s], k + 1) for s, k in which.tolist()]
        pose = self.rendered.objects[which[:, 0], which[:, 1]]["pose"]
        return Frames(*(as_floats(field, device) for field in (maps, tokens, np.stack(shown), pose)))

    def free(self, rng: np.random.Generator, obj: Combo) -> Asked:
        """A question in a person's own words."""
        said = random_question(rng, obj, LANGUAGES[int(rng.integers(len(LANGUAGES)))])
        return Asked(self.questions.free(said.question), self.questions.answer(said.answer))


class Clips:
    """All followed segments and clips of a folder with their captions."""

    def __init__(self, features: Path, films: Path, questions: Questions) -> None:
        self.features, self.told = open_film_features(features), told(films)
        self.poses = {seed: film_poses(seed) for seed in self.told}
        self.drawn = open_films(films)
        self.parts = np.argwhere(self.features.done[:, :WHOLE])
        turning = [self.told[film].events[part].startswith("turn") for film, part in self.parts]
        weights = np.where(turning, TURN_WEIGHT, 1.0)
        self.shares = weights / weights.sum()
        self.later = self.parts[self.parts[:, 1] > 0]
        self.wholes = np.flatnonzero(self.features.done[:, WHOLE])
        self.questions = questions

    def draw(self, rng: np.random.Generator, count: int, device: torch.device) -> Lesson:
        """A random batch, each clip asked in both languages."""
        maps, tokens, asked, truths = [], [], [], []
        for _ in range(count):
            if rng.random() < WHOLE_SHARE:
                film, part = int(rng.choice(self.wholes)), WHOLE
            else:
                film, part = self.parts[int(rng.choice(len(self.parts), p=self.shares))].tolist()
            said = self.told[film]
            turned = part != WHOLE and said.events[part] in BACKWARDS and rng.random() < BACKWARDS_SHARE
            order = frame_order(rng, turned=turned, warped=part != WHOLE and rng.random() < WARPED_SHARE)
            maps.append(np.asarray(self.features.maps[film, part])[order])
            tokens.append(np.asarray(self.features.tokens[film, part])[order])
            alone = part == WHOLE or part == 0 or rng.random() < WITHOUT_HISTORY
            other = None if alone or rng.random() > RENAMED_SHARE else self.other_name(rng, film)
            asked.append(
                [self.asked(said, part, lang, alone=alone, turned=turned, other=other) for lang in LANGUAGES]
            )
            truths.append(self.truth(film, part, order, turned=turned))
        seen = [as_floats(np.stack(field), device) for field in (maps, tokens)]
        draw = torch.Generator(device).manual_seed(int(rng.integers(1 << 31)))
        noise = torch.empty_like(seen[0]).normal_(0, GRAIN * float(rng.random()), generator=draw)
        seen[0] = seen[0] + noise
        truth = Truth(*(torch.from_numpy(np.stack(field)).to(device) for field in zip(*truths, strict=True)))
        return Lesson(seen[0], seen[1], asked, {}, truth)

    def frames(self, rng: np.random.Generator, count: int, device: torch.device) -> Frames:
        """One each of as many segments."""
        rows: list[tuple[NDArray[Any], ...]] = []
        while len(rows) < count:
            film, part = self.parts[int(rng.integers(len(self.parts)))].tolist()
            at = int(rng.integers(FRAMES))
            shown, pose, seen, _ = self.truth(film, part, np.array([at]), turned=False)
            if seen[0]:
                held = self.features.maps[film, part, at], self.features.tokens[film, part, at]
                rows.append((*held, shown[0], pose[0]))
        return Frames(*(as_floats(np.stack(field), device) for field in zip(*rows, strict=True)))

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
        shown = shown_in_cells(self.drawn.owner[film, : len(pose)][frames], target)
        return shown, pose[frames], shown.any((1, 2)).astype(np.float32), np.array(number)

    def other_name(self, rng: np.random.Generator, film: int) -> Combo:
        """What looks like a clip's target, of any kind that training may see so."""
        target = self.drawn.film[film]
        look = COLOURS[target["colour"]].name, PATTERNS[target["pattern"]]
        open_to = [combo for combo in combos("train") if combo[1:] == look]
        return open_to[int(rng.integers(len(open_to)))]

    def names(self, rng: np.random.Generator, count: int) -> list[list[Asked]]:
        """Later segments under other names, in both languages, answered up to the name. To be asked of no
        picture at all: what history calls an object is then the only object to tell it by.
        """
        lessons = []
        for film, part in self.later[rng.integers(len(self.later), size=count)].tolist():
            said, other, asked = self.told[film], self.other_name(rng, film), []
            for lang in LANGUAGES:
                one = self.asked(said, part, lang, alone=False, turned=False, other=other)
                happens = self.questions.happening(self.questions.decode(one.answer[:-1]), lang)
                told = slice(happens.index(True))
                asked.append(Asked(one.ids_after, one.answer[told], one.stressed[told]))
            lessons.append(asked)
        return lessons

    def asked(
        self,
        said: Told,
        part: int,
        lang: Language,
        *,
        alone: bool,
        turned: bool,
        other: Combo | None = None,
    ) -> Asked:
        """The question about a segment, or about a whole clip, and its answer. With `other`, history has that
        name and the answer keeps to it.
        """
        before = "" if alone else said.parts[part - 1][lang]
        text = said.whole[lang] if part == WHOLE else (said.alone if alone else said.parts)[part][lang]
        if turned:
            text = told_backwards(text, said.events[part], lang)
        if other is not None:
            before, text = (renamed(caption, other, lang) for caption in (before, text))
        stressed = () if part == WHOLE else self.questions.happening(text, lang, named=other is not None)
        return Asked(self.questions.video(lang, before), self.questions.answer(text), stressed)


def as_floats(field: NDArray[Any], device: torch.device) -> Tensor:
    """An array as a float32 tensor on the device."""
    return torch.from_numpy(field).to(device).float()


def frame_order(rng: np.random.Generator, *, turned: bool, warped: bool) -> NDArray[np.int64]:
    """Which of a segment's frames are read, in which order: faster at first or at last where `warped`."""
    at = np.linspace(0, 1, FRAMES) ** (float(np.exp(rng.uniform(-0.5, 0.5))) if warped else 1.0)
    order = np.rint(at * (FRAMES - 1)).astype(np.int64)
    return order[::-1] if turned else order
