"""Running means and collected texts of an evaluation, and the report's cells made of them.

Knows cases and metrics; neither pictures nor the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pam_edge.benchmarks.quality.caption_scores import Meteor, Pair, Score, cider
from pam_edge.benchmarks.quality.cases import DEFINITION, LABEL, Judged, Said
from pam_edge.benchmarks.quality.metrics import protocol_category, protocol_prediction, semantic_iou
from pam_edge.benchmarks.quality.report import Captions, Cell, KindRow, Language
from pam_edge.benchmarks.quality.similarity import SentenceModel, model_folder
from pam_edge.core.errors import EnvironmentProblem
from pam_edge.text.tokenization import Lang

_NO_MASKS = "the data holds no masks"
_NO_COLOURS = "the data does not say what colour objects have"
_ENGLISH_ONLY = "the protocol's sentence model knows English only"
_NO_SPACES = "Chinese has no spaces: every character counts as a word, which the protocol does not define"
_NO_CHINESE = "METEOR 1.5 has no Chinese: compared character by character, exact matches only"


@dataclass
class _Mean:
    total: float = 0.0
    n: int = 0

    def add(self, value: float) -> None:
        self.total += value
        self.n += 1

    def merge(self, other: _Mean) -> None:
        self.total += other.total
        self.n += other.n

    def cell(self, why: str, note: str = "") -> Cell:
        """The mean; without any value None, and `why`."""
        return Cell(self.total / self.n, self.n, note) if self.n else Cell(None, 0, why)


@dataclass
class Tally:
    """Running means of one kind of object, by what they are of: ("click",), ("recognize", "en"), ("colour",
    "zh")...
    """

    cases: int = 0
    means: dict[tuple[str, ...], _Mean] = field(default_factory=dict)

    def add(self, judged: Judged) -> None:
        self.cases += 1
        for name, iou in (("click", judged.click_iou), ("box", judged.box_iou)):
            if iou is not None:
                self.of(name).add(iou)
        for said in judged.said:
            task, lang = said.ask.task, said.ask.lang
            if said.right is not None:
                self.of(task, lang).add(said.right)
                if task not in (LABEL, DEFINITION):
                    self.of("colour", lang).add(said.right)

    def of(self, *name: str) -> _Mean:
        return self.means.setdefault(name, _Mean())

    def merge(self, other: Tally) -> None:
        self.cases += other.cases
        for name, mean in other.means.items():
            self.of(*name).merge(mean)

    def iou(self, prompt: str) -> Cell:
        return self.of(prompt).cell(_NO_MASKS)

    def category(self, lang: str) -> Cell:
        return self.of(LABEL, lang).cell("no categories asked for")

    def colour(self, lang: str, *name: str) -> Cell:
        return self.of(*(name or ("colour",)), lang).cell(_NO_COLOURS)

    def definition(self, lang: str) -> Cell:
        return self.of(DEFINITION, lang).cell("no definitions asked for")

    def row(self, kind: str, langs: Sequence[Lang]) -> KindRow:
        return KindRow(
            kind=kind,
            cases=self.cases,
            click_iou=self.iou("click"),
            box_iou=self.iou("box"),
            category={lang: self.category(lang) for lang in langs},
            colour={lang: self.colour(lang) for lang in langs},
            definition={lang: self.definition(lang) for lang in langs},
        )


class Pairs:
    """Predicted and true texts by task and language, for what is scored over the whole corpus."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], list[Pair]] = {}

    def add(self, said: Sequence[Said]) -> None:
        for one in said:
            if one.ask.task != DEFINITION:
                key = (one.ask.task, one.ask.lang)
                self._held.setdefault(key, []).append((one.answer.text, one.ask.truth))

    def of(self, task: str, lang: str) -> list[Pair]:
        return self._held.get((task, lang), [])

    def caption_tasks(self, lang: str) -> list[str]:
        return [task for task, of in self._held if of == lang and task != LABEL]


def language_cells(langs: Sequence[Lang], whole: Tally, pairs: Pairs) -> dict[str, Language]:
    """Every figure about words, by language. METEOR's process is started once for all of them."""
    meteor = Meteor()
    found: dict[str, Language] = {}
    for lang in langs:
        names = pairs.of(LABEL, lang)
        overlap = _Mean()
        for predicted, true in names:
            overlap.add(semantic_iou(predicted, true))
        found[lang] = Language(
            category=whole.category(lang),
            similarity=_similarity(names, lang),
            semantic_iou=overlap.cell("no categories asked for", _NO_SPACES if lang == "zh" else ""),
            colour=whole.colour(lang),
            definition=whole.definition(lang),
            captions={
                task: _captions(pairs.of(task, lang), meteor, lang, whole.colour(lang, task))
                for task in pairs.caption_tasks(lang)
            },
        )
    return found


def _captions(pairs: Sequence[Pair], meteor: Meteor, lang: str, colour: Cell) -> Captions:
    note = _NO_CHINESE if lang == "zh" else ""
    score = meteor.score(pairs)
    return Captions(
        meteor=_cell(score, len(pairs), note),
        meteor_mean=_cell(Score(score.mean, score.note), len(pairs), note),
        cider=_cell(cider(pairs), len(pairs)),
        colour=colour,
    )


def _cell(score: Score, n: int, note: str = "") -> Cell:
    return Cell(None, 0, score.note) if score.value is None else Cell(score.value, n, note, score.most)


def _similarity(names: Sequence[Pair], lang: str) -> Cell:
    if lang != "en":
        return Cell(None, 0, _ENGLISH_ONLY)
    if not names:
        return Cell(None, 0, "no categories asked for")
    try:
        model = SentenceModel(model_folder())
    except EnvironmentProblem as e:
        return Cell(None, 0, str(e))
    mean = _Mean()
    for predicted, true in names:
        mean.add(model.similarity(protocol_prediction(predicted), protocol_category(true)))
    return mean.cell("")
