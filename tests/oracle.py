"""A stand-in for `Pam` that knows the truth of a source, and whatever a test makes it get wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fakes import byte_tokenizer, fake_bundle

from pam_edge.benchmarks.quality.cases import Ask, Case, Source
from pam_edge.bundle.manifest import write_manifest
from pam_edge.image.preprocess import Prompt, load_image
from pam_edge.pipeline.results import Answer, Region, Seen
from pam_edge.text.tokenization import PAM_PROMPTS, Question, Texts

Mask = np.ndarray


class Oracle:
    """`says(case, ask)` is the answer, `sees(case, prompt)` the mask; both the truth by default."""

    def __init__(
        self,
        folder: Path,
        source: Source,
        *,
        says: Callable[[Case, Ask], str] = lambda case, ask: ask.truth,
        sees: Callable[[Case, Prompt], Mask] = lambda case, prompt: case.mask,
    ) -> None:
        self.bundle = fake_bundle(folder)
        write_manifest(folder, self.bundle.manifest)
        self.texts = Texts(byte_tokenizer(), PAM_PROMPTS)
        self.says, self.sees = says, sees
        self.calls = {"look": 0, "segment": 0, "describe": 0}
        self._cases = {
            load_image(picture.image).tobytes(): {
                key: case for case in picture.cases for key in (case.clicks, case.box) if key
            }
            for picture in source.pictures()
        }

    def look(self, image: Any) -> Seen:
        self.calls["look"] += 1
        picture = load_image(image)
        return Seen(
            size=(picture.height, picture.width),
            key="",
            features={"cases": self._cases[picture.tobytes()]},
            timing_ms={},
        )

    def segment(self, seen: Seen, prompt: Prompt) -> Region:
        self.calls["segment"] += 1
        case = seen.features["cases"][prompt.points or prompt.box]
        mask = self.sees(case, prompt)
        nothing = np.zeros(1, np.float32)
        return Region(
            mask=np.zeros(seen.size, bool) if mask is None else mask,
            low_res=nothing,
            score=0.5,
            object_score=1.0,
            box=None,
            prompt=prompt,
            key=case,
            picture=seen.key,
            region_embed=nothing,
            mask_tokens=nothing,
            timing_ms={},
        )

    def describe(self, region: Region, tasks: Sequence[Any], *, max_tokens: int) -> Any:
        self.calls["describe"] += 1
        case = region.key
        answers = []
        for task, ask in zip(tasks, case.asks, strict=True):
            assert task == Question(ask.question or PAM_PROMPTS.tasks[ask.lang][ask.task])
            text = self.says(case, ask)
            cut = len(text.split()) > max_tokens
            answers.append(Answer("question", "en", text, (1,), "length" if cut else "stop"))
        return _Done(tuple(answers))


class _Done:
    def __init__(self, answers: tuple[Answer, ...]) -> None:
        self.answers = answers

    def __iter__(self) -> Any:
        return iter(())
