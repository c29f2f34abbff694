"""How good a bundle's answers are: one look a picture, a click and a box an object, every question about it
in one batch.

`evaluate` turns cases (`cases.py`) and a `Pam` into a `Report` (`report.py`). What is kept while it
runs are numbers and short strings; pictures and masks go to `watch` and are forgotten. Knows neither worlds
nor files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from pam_edge.benchmarks.harness.machine import where_run
from pam_edge.benchmarks.quality.cases import DEFINITION, LABEL, Ask, Case, Judged, Picture, Said, Source
from pam_edge.benchmarks.quality.metrics import mask_iou, same_label, same_text
from pam_edge.benchmarks.quality.report import SCHEMA, Report, about_bundle
from pam_edge.benchmarks.quality.tally import Pairs, Tally, language_cells
from pam_edge.core.errors import UsageError
from pam_edge.image.preprocess import Prompt, load_image
from pam_edge.pipeline.pam import Pam
from pam_edge.pipeline.results import Answer, Region
from pam_edge.text.tokenization import Lang, Question

MAX_TOKENS = 128  # an answer's cap; the world's longest true answer takes well under half

Watch = Callable[[Judged], None]
Progress = Callable[[int, int], None]  # pictures done, pictures in all


def evaluate(
    pam: Pam,
    source: Source,
    *,
    langs: Sequence[Lang],
    max_tokens: int = MAX_TOKENS,
    watch: Watch = lambda judged: None,
    progress: Progress = lambda done, count: None,
) -> Report:
    """Ask everything the source asks and score it; greedy decoding.

    Raises UsageError where a language or number makes no sense, IntegrityError where a picture turns out
    damaged. A metric that cannot be measured here is a cell without a value that says why; it is never an
    error.
    """
    if not langs or len(set(langs)) < len(langs):
        raise UsageError(f"languages {','.join(langs) or '(none)'}: name each once, at least one")
    started = time.perf_counter()
    clock = _Clock()
    tallies: dict[str, Tally] = {}
    pairs = Pairs()
    pictures = cases = cut_off = 0
    for picture in clock.timed("scenes", source.pictures()):
        for judged in _judge(pam, picture, source, max_tokens=max_tokens, clock=clock):
            cases += 1
            cut_off += sum(said.answer.finish_reason == "length" for said in judged.said)
            tallies.setdefault(judged.case.kind, Tally()).add(judged)
            pairs.add(judged.said)
            with clock("examples"):
                watch(judged)
        pictures += 1
        progress(pictures, source.count)
    with clock("scoring"):
        whole = Tally()
        for tally in tallies.values():
            whole.merge(tally)
        languages = language_cells(langs, whole, pairs)
    return Report(
        schema=SCHEMA,
        bundle=about_bundle(pam.bundle),
        machine=where_run(pam.bundle),
        data=dict(source.about),
        pictures=pictures,
        cases=cases,
        click_iou=whole.iou("click"),
        box_iou=whole.iou("box"),
        languages=languages,
        kinds=tuple(tallies[kind].row(kind, langs) for kind in sorted(tallies)),
        cut_off=cut_off,
        max_tokens=max_tokens,
        seconds={"total": round(time.perf_counter() - started, 3), **clock.rounded()},
    )


def _judge(pam: Pam, picture: Picture, source: Source, *, max_tokens: int, clock: _Clock) -> Iterator[Judged]:
    image = load_image(picture.image)
    with clock("look"):
        seen = pam.look(image)
    for case in picture.cases:
        with clock("segment"):
            click = pam.segment(seen, Prompt(points=case.clicks)) if case.clicks else None
            box = pam.segment(seen, Prompt(box=case.box)) if case.box else None
        region = click or box
        assert region is not None  # a case has clicks or a box
        with clock("describe"):
            answers = _answers(pam, region, case, max_tokens=max_tokens)
        said = tuple(
            Said(ask, answer, _right(ask, answer.text, case, source))
            for ask, answer in zip(case.asks, answers, strict=True)
        )
        yield Judged(case, image, click, box, _iou(click, case), _iou(box, case), said)


def _answers(pam: Pam, region: Region, case: Case, *, max_tokens: int) -> tuple[Answer, ...]:
    """Every answer about a region, languages side by side in the same batch: a task is a question by its own
    words.
    """
    questions = [Question(ask.question or pam.texts.task_text(ask.task, lang=ask.lang)) for ask in case.asks]
    description = pam.describe(region, questions, max_tokens=max_tokens)
    for _ in description:
        pass
    return description.answers


def _iou(region: Region | None, case: Case) -> float | None:
    return None if region is None or case.mask is None else mask_iou(region.mask, case.mask)


def _right(ask: Ask, text: str, case: Case, source: Source) -> bool | None:
    if ask.task == LABEL:
        return same_label(text, ask.truth)
    if ask.task == DEFINITION:
        return same_text(text, ask.truth)
    if case.colour is None or source.colour_of is None:
        return None
    return source.colour_of(text, ask.lang) == case.colour


class _Clock:
    """Seconds by part of the work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    def timed(self, part: str, pictures: Iterator[Picture]) -> Iterator[Picture]:
        """The same pictures; the time until each is there counts for `part`."""
        while True:
            with self(part):
                picture = next(pictures, None)
            if picture is None:
                return
            yield picture

    def rounded(self) -> Mapping[str, float]:
        return {part: round(seconds, 3) for part, seconds in self.seconds.items()}
