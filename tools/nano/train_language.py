"""Stage two: perceiver, projectors and language model of nano on frozen vision.

    python -m tools.nano.train_language --scenes DIR --features DIR --tokenizer FILE --out DIR --minutes 30

Reads what `features` saw. Cross-entropy on the answers alone; each region is asked every task, each time in
one of the two languages. Started again with the same folder it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from pam_edge.benchmarks.world import LANGUAGES, TASKS
from pam_edge.config import NANO
from pam_edge.export.checkpoint import load_language, load_perceiver, open_checkpoint
from pam_edge.export.model.language import Language
from pam_edge.export.model.perceiver import Perceiver
from tools.nano import crew
from tools.nano.data import open_rendered, texts_of
from tools.nano.features import Features, open_features
from tools.nano.loop import Learner, begun, multiplied_in_bfloat16, run
from tools.nano.segment_loss import CLASSES
from tools.nano.tree import hidden, plant
from tools.nano.words import Asked, Questions

SEED = 5
PEAK, DECAY = 1.5e-3, 0.02
REGIONS = 8  # per process and step
EXACT_FROM = 0.85  # until then in bfloat16, float32 where it matters: twice as fast where the CPU has it
HELP_UNTIL = 0.6  # helper heads fade out by this progress
SAVE_EVERY = 100  # steps


class Helpers(nn.Module):
    """Linear heads on the semantic tokens, in training alone: they make those tokens worth reading."""

    def __init__(self) -> None:
        super().__init__()
        wide = NANO.language.hidden_size * NANO.perceiver.semantic_tokens
        self.heads = nn.ModuleDict({n: nn.Linear(wide, c) for n, c in CLASSES.items()})

    def forward(self, tokens: Tensor, wanted: dict[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Region tokens [B, R, H], class numbers [B] each -> loss and share right."""
        count = NANO.perceiver.semantic_tokens
        semantic = tokens[:, -1 - count : -1].flatten(1)
        total, right = tokens.new_zeros(()), {}
        for name, number in wanted.items():
            scores = self.heads[name](semantic)
            total = total + F.cross_entropy(scores, number)
            right[f"helper_{name}"] = (scores.argmax(1) == number).float().mean().item()
        return total, right


def fresh_language() -> Language:
    """Small embeddings (they are also the head), quiet output projections."""
    language = Language(NANO.language)
    nn.init.normal_(language.embed_tokens.weight, std=0.05)
    for layer in language.layers:
        for name, p in layer.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                p.data.mul_(0.5)
    return language


def answer_loss(
    parts: tuple[Perceiver, Language], seen: tuple[Tensor, Tensor], asked: list[list[Asked]], before: Tensor
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Region maps and mask tokens of B regions, their questions -> loss, region tokens, figures."""
    perceiver, language = parts
    tokens = perceiver(*seen).float()
    start = language.embed_tokens(before)[None].expand(len(tokens), -1, -1)
    tree = plant(asked, start.shape[1] + tokens.shape[1]).to(tokens.device)
    out = hidden(language, torch.cat([start, tokens, language.embed_tokens(tree.ids)], dim=1), tree)
    out = out[:, start.shape[1] + tokens.shape[1] :]
    counted = tree.target >= 0
    scores, target = language.logits(out[counted]).float(), tree.target[counted]
    weight = tree.weight[counted]
    loss = (F.cross_entropy(scores, target, reduction="none") * weight).sum() / weight.sum()
    right = (scores.argmax(1) == target).float().mean().item()
    return loss, tokens, {"answers": loss.item(), "token_right": right}


class Regions:
    """All regions of a feature folder with their questions."""

    def __init__(self, given: argparse.Namespace, questions: Questions) -> None:
        self.features: Features = open_features(given.features)
        self.rows = np.flatnonzero(self.features.which[:, 1] >= 0)
        self.texts, self.objects = texts_of(given.scenes), open_rendered(given.scenes).objects
        self.questions = questions

    def draw(
        self, rng: np.random.Generator, device: torch.device
    ) -> tuple[tuple[Tensor, Tensor], list[list[Asked]], dict[str, Tensor]]:
        """A random batch: maps and tokens, questions, class numbers."""
        rows = np.sort(rng.choice(self.rows, REGIONS, replace=False))
        maps, tokens, which = (field[rows] for field in self.features)
        asked = []
        for scene, thing in which.tolist():
            texts, order = self.texts[scene][thing], rng.permutation(len(TASKS)).tolist()
            spoken = rng.integers(len(LANGUAGES), size=len(TASKS)).tolist()
            chosen = [(TASKS[t], LANGUAGES[spoken[t]]) for t in order]
            asked.append([self.questions.asked(task, lang, texts[lang][task]) for task, lang in chosen])
        things = self.objects[which[:, 0], which[:, 1]]
        wanted = {n: torch.from_numpy(things[n].astype(np.int64)).to(device) for n in CLASSES}
        seen = (torch.from_numpy(maps).to(device).float(), torch.from_numpy(tokens).to(device).float())
        return seen, asked, wanted


def train(member: crew.Member, given: argparse.Namespace) -> None:
    """What each process of the crew does."""
    warnings.filterwarnings("ignore", message=".*writable.*")
    torch.manual_seed(given.seed)
    perceiver, language, helpers = Perceiver(NANO), fresh_language(), Helpers()
    both = nn.ModuleDict({"perceiver": perceiver, "language": language})
    groups = crew.groups((both, helpers), decay=DECAY)
    learner = Learner("language", "both", both, helpers, groups, SAVE_EVERY)
    if given.start is not None and not begun(learner, given):
        if given.start.suffix == ".pt":
            state = torch.load(given.start, weights_only=True)
            both.load_state_dict(state["average"]["values"])
            helpers.load_state_dict(state["helpers"])
        else:
            shipped = open_checkpoint(str(given.start))
            perceiver.load_state_dict(load_perceiver(shipped).state_dict())
            language.load_state_dict(load_language(shipped).state_dict())
    both.to(member.device)
    helpers.to(member.device)
    questions = Questions(Tokenizer.from_file(str(given.tokenizer)))
    regions, prefix = Regions(given, questions), torch.tensor(questions.before, device=member.device)

    def losses(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([given.seed, step, member.rank])
        seen, asked, wanted = regions.draw(rng, member.device)
        with multiplied_in_bfloat16(member, enabled=progress < EXACT_FROM):
            loss, tokens, figures = answer_loss((perceiver, language), seen, asked, prefix)
        help_, right = helpers(tokens, wanted)
        return loss + 0.2 * max(0.0, 1 - progress / HELP_UNTIL) * help_, figures | right

    run(learner, given, member, losses)


def main() -> None:
    """Train until the minutes are used up."""
    parser = crew.options(__doc__, minutes=30, peak=PEAK, seed=SEED)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    crew.start_crew(given.processes, given.out, lambda member: train(member, given))


if __name__ == "__main__":
    main()
