"""How good a checkpoint is on scenes training never saw: masks in full size, answers word for word.

    python -m tools.nano.check --sam run1/sam.pt --language run1/language.pt --tokenizer FILE --count 60
    python -m tools.nano.check --weights pam_edge/nano --seed 900 --count 60

Through the PyTorch modules, float32, greedy. `pam-edge eval` measures the same through an exported bundle.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from torch import Tensor

from pam_edge.benchmarks.synthetic import (
    LANGUAGES,
    Combo,
    Scene,
    answer,
    centre_click,
    named_colour,
    nth_seed,
    question,
    random_click,
    scene,
)
from pam_edge.benchmarks.synthetic.questions import SUBJECTS
from pam_edge.bundle.config import NANO
from pam_edge.export.checkpoint.checkpoint import load_module, open_checkpoint
from pam_edge.export.model.language import Cache, Language
from pam_edge.export.model.perceiver import Perceiver
from pam_edge.export.model.vision import Segmented, VisionTower
from tools.nano import crew
from tools.nano.data import SIDE, squeezed
from tools.nano.features import load_tower
from tools.nano.words import Questions

LONGEST = 96  # tokens of an answer
Figures = dict[str, list[float]]


def segment(
    tower: VisionTower, drawn: Scene, prompts: tuple[NDArray[Any], NDArray[Any]]
) -> tuple[Segmented, Tensor]:
    """All prompts [N, P, 2] and [N, P] (pixels of the picture) -> what they select, masks bool [N, H, W]."""
    seen = tower.encode_image(crew.normalized(torch.from_numpy(squeezed(drawn.image).copy())[None]))
    scale = np.array([SIDE / drawn.width, SIDE / drawn.height], np.float32)
    found = tower.decode_masks(
        tower.without_memory(seen.image_embed),
        (seen.high_res_0, seen.high_res_1),
        torch.from_numpy((prompts[0] * scale).astype(np.float32)),
        torch.from_numpy(prompts[1].astype(np.float32)),
    )
    size = drawn.image.shape[:2]
    return found, F.interpolate(found.masks, size=size, mode="bilinear", align_corners=False)[:, 0] > 0


class Words(NamedTuple):
    """What answers: the language side and the tokens of its questions."""

    parts: tuple[Perceiver, Language]
    questions: Questions


def prefix(words: Words, tokens: Tensor) -> Cache:
    """Visual tokens [N, T, H] read after the words that precede them."""
    language, questions = words.parts[1], words.questions
    before = language.embed_tokens(torch.tensor(questions.before))[None]
    cache: Cache = language(torch.cat([before.expand(len(tokens), -1, -1), tokens], dim=1))[1]
    return cache


def greedy(words: Words, cache: Cache, after: Sequence[int]) -> list[str]:
    """The N answers to one question, after what `prefix` read."""
    language, questions = words.parts[1], words.questions
    count = len(cache[0][0])
    logits, cache = language(language.embed_tokens(torch.tensor(after))[None].expand(count, -1, -1), cache)
    chosen = []
    open_ = torch.ones(count, dtype=torch.bool)
    for _ in range(LONGEST):
        following = logits.argmax(-1)
        chosen.append(following)
        open_ &= following != questions.stop
        if not open_.any():
            break
        logits, cache = language(language.embed_tokens(following)[:, None], cache)
    rows = torch.stack(chosen, dim=1).tolist()
    ends = [row.index(questions.stop) if questions.stop in row else len(row) for row in rows]
    return [questions.decode(row[:end]) for row, end in zip(rows, ends, strict=True)]


def check_free(words: Words, cache: Cache, objects: Sequence[Combo], seed: int, figures: Figures) -> None:
    """One question in a person's own words per language, the same of all N regions."""
    rng = np.random.default_rng([seed, 1])
    for lang in LANGUAGES:
        subject = SUBJECTS[int(rng.integers(len(SUBJECTS)))]
        wording, other = int(rng.integers(3)), 10 + int(rng.integers(10))
        asked = [question(subject, obj, lang, wording=wording, other=other) for obj in objects]
        said = greedy(words, cache, words.questions.free(asked[0].question))
        right = [float(text == one.answer) for text, one in zip(said, asked, strict=True)]
        figures[f"own question {lang}"] += right
        figures[f"own question: {subject}"] += right


def check_scene(
    drawn: Scene,
    tower: VisionTower,
    words: Words | None,
    figures: Figures,
) -> list[dict[str, Any]]:
    """Add one scene's figures; returns what went wrong."""
    rng = np.random.default_rng(drawn.seed)
    n = len(drawn.objects)
    clicks = np.array([random_click(obj.mask, rng) for obj in drawn.objects], np.float32)
    centres = np.array([centre_click(obj.mask) for obj in drawn.objects], np.float32)
    boxes = np.array([[b.x, b.y, b.x + b.w, b.y + b.h] for b in (t.box for t in drawn.objects)], np.float32)
    coords, labels = np.zeros((3 * n, 2, 2), np.float32), np.full((3 * n, 2), -2, np.float32)
    coords[:n, 0], coords[n : 2 * n, 0], coords[2 * n :] = clicks, centres, boxes.reshape(n, 2, 2)
    labels[: 2 * n, 0], labels[2 * n :] = 1, (2, 3)
    found, masks = segment(tower, drawn, (coords, labels))
    wrong: list[dict[str, Any]] = []
    for i in range(3 * n):
        obj, given = drawn.objects[i % n], masks[i].numpy()
        iou = float((obj.mask & given).sum() / max(1, (obj.mask | given).sum()))
        name = ("click", "centre", "box")[i // n]
        figures[name].append(iou)
        figures["there"].append(float(found.object_score[i, 0] > 0))
        if iou < 0.75:
            wrong.append({"seed": drawn.seed, "object": i % n, "kind": obj.kind, "prompt": name, "iou": iou})
    if words is None:
        return wrong
    cache = prefix(words, words.parts[0](found.region_embed[:n], found.mask_tokens[:n]))
    check_free(words, cache, [Combo(t.kind, t.colour, t.pattern) for t in drawn.objects], drawn.seed, figures)
    for (task, lang), after in words.questions.after.items():
        for i, text in enumerate(greedy(words, cache, after)):
            wanted, obj = answer(drawn, i, task, lang), drawn.objects[i]
            figures[f"{task} {lang}"].append(float(text == wanted))
            if task in ("brief", "detailed"):
                figures[f"colour {lang}"].append(float(named_colour(text, lang) == obj.colour))
            if text != wanted:
                row = {"seed": drawn.seed, "object": i, "task": task, "said": text, "wanted": wanted}
                wrong.append(row | {"iou": figures["click"][-n + i]})
    return wrong


def panel(path: Path, rows: list[dict[str, Any]], tower: VisionTower) -> None:
    """A picture of the first failures: what is wanted lit green, what was given red, both yellow."""
    tiles = []
    for row in rows[:24]:
        drawn = scene(row["seed"], "heldout")
        obj = drawn.objects[row["object"]]
        rng = np.random.default_rng(drawn.seed)
        x, y = [random_click(t.mask, rng) for t in drawn.objects][row["object"]]
        b = obj.box
        points = [[x, y], [0, 0]] if row.get("prompt") != "box" else [[b.x, b.y], [b.x + b.w, b.y + b.h]]
        if row.get("prompt") == "centre":
            points = [list(centre_click(obj.mask)), [0, 0]]
        label = [1, -2] if row.get("prompt") != "box" else [2, 3]
        _, masks = segment(tower, drawn, (np.array([points], np.float32), np.array([label], np.float32)))
        shown = drawn.image.astype(np.float32)
        shown[obj.mask, 1] += 90
        shown[masks[0].numpy(), 0] += 90
        x, y = (int(v) for v in points[0])
        shown[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4] = (0, 0, 255)
        tiles.append(np.asarray(Image.fromarray(shown.clip(0, 255).astype(np.uint8)).resize((256, 256))))
    blank = np.zeros((256, 256, 3), np.uint8)
    tiles += [blank] * (-len(tiles) % 6)
    lines = [np.concatenate(tiles[i : i + 6], axis=1) for i in range(0, len(tiles), 6)]
    if lines:
        Image.fromarray(np.concatenate(lines)).save(path)


def options(about: str | None, *, count: int) -> argparse.ArgumentParser:
    """What a check is told: which weights (see `open_parts`), and which held-out scenes or clips."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--sam", type=Path)
    parser.add_argument("--language", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--seed", type=int, default=900)
    parser.add_argument("--count", type=int, default=count)
    return parser


def open_parts(given: argparse.Namespace) -> tuple[VisionTower, Words | None]:
    """The modules of `--weights`, or of `--sam` and, where given, `--language` with `--tokenizer`."""
    tower, perceiver, language = VisionTower(NANO.vision), Perceiver(NANO), Language(NANO.language)
    if given.weights is not None:
        checkpoint = open_checkpoint(
            str(given.weights),
            sam2=given.weights / "sam2.1_nano.pt",
            sam2_config=given.weights / "sam2.1_nano.json",
        )
        for module, name in ((tower, "vision."), (perceiver, "perceiver."), (language, "language.")):
            load_module(module, checkpoint, name)
        tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json.decode())
        return tower, Words((perceiver, language), Questions(tokenizer))
    tower = load_tower(given.sam)
    if given.language is None:
        return tower, None
    both = torch.nn.ModuleDict({"perceiver": perceiver, "language": language})
    both.load_state_dict(
        torch.load(given.language, weights_only=True, map_location="cpu")["average"]["values"]
    )
    return tower, Words((perceiver, language), Questions(Tokenizer.from_file(str(given.tokenizer))))


def main() -> None:
    """Print the figures as JSON; `--failures FILE.png` draws the worst masks."""
    parser = options(__doc__, count=60)
    parser.add_argument("--failures", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    tower, words = open_parts(given)
    figures: Figures = defaultdict(list)
    wrong: list[dict[str, Any]] = []
    for i in range(given.count):
        wrong += check_scene(scene(nth_seed(given.seed, i), "heldout"), tower, words, figures)
    means = {name: round(float(np.mean(values)), 4) for name, values in figures.items()}
    sys.stdout.write(
        json.dumps({"seed": given.seed, "scenes": given.count, "regions": len(figures["click"])} | means)
        + "\n"
    )
    for row in [r for r in wrong if "task" in r][:30]:
        sys.stderr.write(json.dumps(row, ensure_ascii=False) + "\n")
    if given.failures is not None:
        panel(given.failures, sorted((r for r in wrong if "prompt" in r), key=lambda r: r["iou"]), tower)


if __name__ == "__main__":
    main()
