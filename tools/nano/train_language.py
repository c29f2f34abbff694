"""Stage two: perceiver, projectors and language model of nano on frozen vision.

    python -m tools.nano.train_language --scenes DIR --features DIR --tokenizer FILE --out DIR --minutes 30
    ... --films DIR --film-features DIR

Reads what `features` and, for captions of clips, `film_features` saw; without the latter pictures alone are
taught. Cross-entropy on the answers alone. Started again with the same folder it goes on where it stopped.
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

from pam_edge.bundle.config import NANO
from pam_edge.export.checkpoint.checkpoint import load_language, load_perceiver, open_checkpoint
from pam_edge.export.model.language import Language
from pam_edge.export.model.perceiver import Perceiver
from tools.nano import crew
from tools.nano.film_helpers import FilmHelpers
from tools.nano.lessons import Clips, Frames, Regions
from tools.nano.loop import Learner, begun, fused_attention, multiplied_in_bfloat16, run
from tools.nano.resettle import resettle
from tools.nano.segment_loss import CLASSES
from tools.nano.tree import hidden, plant
from tools.nano.video_words import batch_tokens
from tools.nano.words import Asked, Questions

SEED = 5
PEAK, DECAY = 1.5e-3, 0.02
REGIONS = 8  # per process and step
MIXED = (12, 4)  # regions and clips per process and step, where clips are taught too
NAMES = 12  # segments that are asked of nothing but what was said before
FRAMES = 12  # single ones of clips beside them, and as many regions of pictures in their place
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
    parts: tuple[Perceiver, Language], tokens: Tensor, asked: list[list[Asked]], before: Tensor
) -> tuple[Tensor, float, Tensor]:
    """Visual tokens of B regions or clips, their questions -> loss, share of answer tokens right, and the
    language model's states at the visual tokens, [B, T, H].
    """
    language = parts[1]
    start = language.embed_tokens(before)[None].expand(len(tokens), -1, -1)
    tree = plant(asked, start.shape[1] + tokens.shape[1]).to(tokens.device)
    out = hidden(language, torch.cat([start, tokens, language.embed_tokens(tree.ids)], dim=1), tree)
    states, out = out[:, start.shape[1] :].split([tokens.shape[1], tree.ids.shape[1]], dim=1)
    counted = tree.target >= 0
    scores, target = language.logits(out[counted]).float(), tree.target[counted]
    weight = tree.weight[counted]
    loss = (F.cross_entropy(scores, target, reduction="none") * weight).sum() / weight.sum()
    return loss, (scores.argmax(1) == target).float().mean().item(), states.float()


def train(member: crew.Member, given: argparse.Namespace) -> None:
    """What each process of the crew does."""
    warnings.filterwarnings("ignore", message=".*writable.*")
    torch.manual_seed(given.seed)
    perceiver, language = Perceiver(NANO), fresh_language()
    of_regions, of_clips = Helpers(), FilmHelpers()
    helpers = nn.ModuleDict({"regions": of_regions, "clips": of_clips})
    both = nn.ModuleDict({"perceiver": perceiver, "language": language})
    groups = crew.groups((both, helpers), decay=DECAY)
    learner = Learner("language", "both", both, helpers, groups, SAVE_EVERY)
    if given.start is not None and not begun(learner, given):
        if given.start.suffix == ".pt":
            state = torch.load(given.start, weights_only=True, map_location="cpu")
            both.load_state_dict(state["average"]["values"])
            helpers.load_state_dict(state["helpers"])
        else:
            shipped = open_checkpoint(str(given.start))
            perceiver.load_state_dict(load_perceiver(shipped).state_dict())
            language.load_state_dict(load_language(shipped).state_dict())
    both.to(member.device)
    helpers.to(member.device)
    questions = Questions(Tokenizer.from_file(str(given.tokenizer)))
    regions = Regions(given.features, given.scenes, questions)
    clips = None if given.films is None else Clips(given.film_features, given.films, questions)
    if given.resettle and clips is not None and not begun(learner, given):
        frames = clips.frames(np.random.default_rng(given.seed), 64, member.device)
        resettle(perceiver, frames.maps, frames.tokens)
    prefix, parts = torch.tensor(questions.before, device=member.device), (perceiver, language)

    def losses(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([given.seed, step, member.rank])
        lesson = regions.draw(rng, REGIONS if clips is None else MIXED[0], member.device)
        filmed = None if clips is None else clips.draw(rng, MIXED[1], member.device)
        with multiplied_in_bfloat16(member, enabled=progress < EXACT_FROM):
            tokens = perceiver(lesson.maps, lesson.tokens).float()
            loss, right, _ = answer_loss(parts, tokens, lesson.asked, prefix)
            figures = {"answers": loss.item(), "token_right": right}
            if filmed is not None:
                seen = batch_tokens(perceiver, filmed.maps, filmed.tokens).float()
                with fused_attention():  # a clip is long enough for it
                    more, right, states = answer_loss(parts, seen, filmed.asked, prefix)
                figures |= {"clip_answers": more.item(), "clip_token_right": right}
                loss = loss + more
                named_again = clips.names(rng, NAMES)
                more, right, _ = answer_loss(
                    parts, seen.new_zeros(NAMES, 0, seen.shape[2]), named_again, prefix
                )
                figures |= {"names": more.item(), "name_token_right": right}
                loss = loss + more
                drawn = [of.frames(rng, FRAMES, member.device) for of in (clips, regions)]
                singles = Frames(*(torch.cat(field) for field in zip(*drawn, strict=True)))
                alone = perceiver.later_frame(singles.maps, singles.tokens).float()
        if filmed is not None and filmed.truth is not None:
            more, named = of_clips(seen, states, filmed.truth)
            loss, figures = loss + more, figures | named
            more, named = of_clips.frames(alone, singles.shown, singles.pose)
            loss, figures = loss + more, figures | named
        help_, named = of_regions(tokens, lesson.wanted)
        return loss + 0.2 * max(0.0, 1 - progress / HELP_UNTIL) * help_, figures | named

    run(learner, given, member, losses)


def main() -> None:
    """Train until the minutes are used up."""
    parser = crew.options(__doc__, minutes=30, peak=PEAK, seed=SEED)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--films", type=Path)
    parser.add_argument("--film-features", type=Path)
    parser.add_argument("--resettle", action="store_true", help="see tools/nano/resettle.py")
    parser.add_argument("--tokenizer", type=Path, required=True)
    given = parser.parse_args()
    if (given.films is None) != (given.film_features is None):
        parser.error("--films and --film-features go together")
    given.out.mkdir(parents=True, exist_ok=True)
    crew.start_crew(given.processes, given.out, lambda member: train(member, given))


if __name__ == "__main__":
    main()
