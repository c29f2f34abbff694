"""PyTorch float32 as a worker: our modules, eager, doing what the original does.

    python -m pam_edge.benchmarks.competitors.pytorch VARIANT THREADS

The original runs each task as a call of its own: it prepares and encodes the picture, decodes the mask, makes
the region's tokens, reads the whole prompt and then decodes token by token, over a cache of keys and values.
Weights are the seeded random ones that an export of `random:VARIANT` has.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from pam_edge.benchmarks.competitors.requests import Answer, Answered, Encode, Load
from pam_edge.benchmarks.harness.messages import Iteration, Versions
from pam_edge.benchmarks.harness.scene import clicks, picture
from pam_edge.benchmarks.harness.worker import serve
from pam_edge.export.checkpoint.checkpoint import (
    Checkpoint,
    load_language,
    load_perceiver,
    load_vision,
    open_checkpoint,
)
from pam_edge.export.graphs.image_graphs import ImageEncoderGraph
from pam_edge.export.model.language import Language
from pam_edge.export.model.perceiver import Perceiver
from pam_edge.export.model.vision import VisionTower
from pam_edge.image.preprocess import Prompt, encode_prompt, load_image, normalized, resized
from pam_edge.text.tokenization import PAM_PROMPTS, Texts


def encoder(variant: str) -> Callable[[], int]:
    """The image encoder on one prepared picture: nanoseconds of a run."""
    checkpoint = open_checkpoint(f"random:{variant}")
    graph = ImageEncoderGraph(load_vision(checkpoint))
    size = checkpoint.variant.vision.image_size
    image = torch.from_numpy(
        np.ascontiguousarray(normalized(resized(load_image(picture()), size)), np.float32)
    )

    @torch.inference_mode()
    def run() -> int:
        clock = time.perf_counter_ns()
        graph(image)
        return time.perf_counter_ns() - clock

    return run


class Parts(NamedTuple):
    """A variant's seeded random modules, and its texts."""

    tower: VisionTower
    perceiver: Perceiver
    language: Language
    image_size: int
    texts: Texts

    def prompt(self, prompt: Prompt, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Coordinates and labels of a prompt on a picture of size (h, w)."""
        feeds = encode_prompt(prompt, size=size, image_size=self.image_size, slots=None)
        return torch.from_numpy(feeds["point_coords"]), torch.from_numpy(feeds["point_labels"])


def open_parts(variant: str, *, load: Callable[[Checkpoint], Language] = load_language) -> Parts:
    """The modules of `random:VARIANT`, the language model as `load` gives it."""
    checkpoint = open_checkpoint(f"random:{variant}")
    texts = Texts(checkpoint.tokenizer_json, PAM_PROMPTS)
    vision, perceiver = load_vision(checkpoint), load_perceiver(checkpoint)
    return Parts(vision, perceiver, load(checkpoint), checkpoint.variant.vision.image_size, texts)


def answers(
    variant: str, *, load: Callable[[Checkpoint], Language] = load_language
) -> Callable[[Sequence[str], int], tuple[int, list[list[int]]]]:
    """The reference flow over all tasks, the language model as `load` gives it: nanoseconds, and the tokens
    said.
    """
    parts = open_parts(variant, load=load)
    tower, texts = parts.tower, parts.texts
    shown, prompt = picture(), Prompt(points=((*clicks(1)[0], 1),))

    def answer(task: str, tokens: int) -> list[int]:
        image = load_image(shown)
        pixels = np.ascontiguousarray(normalized(resized(image, parts.image_size)), np.float32)
        seen = tower.encode_image(torch.from_numpy(pixels))
        region = tower.decode_masks(
            tower.without_memory(seen.image_embed),
            (seen.high_res_0, seen.high_res_1),
            *parts.prompt(prompt, (image.height, image.width)),
        )
        shown_tokens = parts.perceiver(region.region_embed, region.mask_tokens)
        return say(parts.language, (texts.ids_before, texts.ids_after(task)), shown_tokens, tokens)

    @torch.inference_mode()
    def run(tasks: Sequence[str], tokens: int) -> tuple[int, list[list[int]]]:
        clock = time.perf_counter_ns()
        said = [answer(task, tokens) for task in tasks]
        return time.perf_counter_ns() - clock, said

    return run


def say(
    language: Language, ids: tuple[Sequence[int], Sequence[int]], shown: torch.Tensor, tokens: int
) -> list[int]:
    """Greedy tokens behind a prompt: ids, what is shown [1, T, H], ids. No stop token ends it."""
    before, after = (language.embed_tokens(torch.tensor([part])) for part in ids)
    logits, cache = language(torch.cat([before, shown.to(before.dtype), after], dim=1))
    said = [int(logits[0].argmax())]
    while len(said) < tokens:
        logits, cache = language(language.embed_tokens(torch.tensor([[said[-1]]])), cache)
        said.append(int(logits[0].argmax()))
    return said


def main(argv: list[str]) -> None:
    """Serve the image encoder, or the whole reference flow."""
    variant = argv[0]
    torch.set_num_threads(int(argv[1]))
    held: dict[str, Any] = {}

    def load(asked: Load) -> Versions:
        if asked.what == "answers":
            held["answers"] = answers(variant)
        else:
            held["encode"] = encoder(variant)
        return {"torch": torch.__version__}

    def encode(_: Encode) -> Iteration:
        return Iteration(samples={"encode": [held["encode"]()]})

    def reference(asked: Answer) -> Answered:
        spent, said = held["answers"](asked.tasks, asked.tokens)
        return Answered(samples={"total": [spent]}, said=said)

    serve({Load: load, Encode: encode, Answer: reference})


if __name__ == "__main__":
    main(sys.argv[1:])
