"""The original's flow in PyTorch as a worker.

    python -m pam_edge.benchmarks.paper_claims.original VARIANT THREADS

One click and one answer, as `benchmarks/competitors/pytorch.py` does it, or one clip, tracked and captioned.
Numbers are those that the original computes in: the language model's weights in bfloat16, everything else
under autocast to it. Weights are seeded random ones.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from pam_edge.benchmarks.competitors.pytorch import answers, open_parts, say
from pam_edge.benchmarks.harness.scene import boxes
from pam_edge.benchmarks.paper_claims.published import Task
from pam_edge.benchmarks.paper_claims.side import Run, clip, serve_side
from pam_edge.benchmarks.speed.tasks import ANSWER
from pam_edge.core.errors import QualityError
from pam_edge.export.checkpoint.checkpoint import Checkpoint
from pam_edge.export.model.language import Language
from pam_edge.export.model.tracker import track
from pam_edge.export.model.vision import Encoded
from pam_edge.image.preprocess import Prompt, pixels


def half_language(checkpoint: Checkpoint) -> Language:
    """The language model in bfloat16, filled a tensor at a time: never all of it in float32."""
    with torch.device("meta"):
        module = Language(checkpoint.variant.language)
    held = {key: checkpoint.tensor(f"language.{key}").to(torch.bfloat16) for key in module.state_dict()}
    module.load_state_dict(held, assign=True)
    return module.eval().requires_grad_(False)


def open_original(variant: str, task: Task) -> Run:
    """The flow over one picture, or over one clip."""
    if task == "video":
        return _clip(variant)
    run = answers(variant, load=half_language)

    def turn(tokens: int) -> Mapping[str, int]:
        with torch.autocast("cpu", torch.bfloat16):
            spent, (said,) = run([ANSWER], tokens)
        return _told(said, tokens, {"total": spent})

    return turn


def _clip(variant: str) -> Run:
    original = open_parts(variant, load=half_language)
    tower, perceiver, texts = original.tower, original.perceiver, original.texts
    ids = texts.ids_before, texts.ids_after("video", history="")
    shots, (box,) = clip(), boxes(1)

    def seen() -> Iterator[Encoded]:
        for shot in shots:
            yield tower.encode_image(
                torch.from_numpy(np.ascontiguousarray(pixels(shot, original.image_size)))
            )

    @torch.inference_mode()
    def turn(tokens: int) -> Mapping[str, int]:
        began = time.perf_counter_ns()
        prompt = original.prompt(Prompt(box=box), (shots[0].height, shots[0].width))
        with torch.autocast("cpu", torch.bfloat16):
            first, *later = track(tower, seen(), len(shots), *prompt)
            parts = [perceiver.first_frame(first.region_embed, first.mask_tokens)]
            parts += [perceiver.later_frame(frame.region_embed, frame.mask_tokens) for frame in later]
            looked = time.perf_counter_ns()
            said = say(original.language, ids, torch.cat(parts, dim=1), tokens)
        done = time.perf_counter_ns()
        return _told(said, tokens, {"total": done - began, "vision": looked - began})

    return turn


def _told(said: list[int], tokens: int, spent: Mapping[str, int]) -> Mapping[str, int]:
    if len(said) != tokens:
        raise QualityError(f"the original said {len(said)} tokens; {tokens} were asked for")
    return spent


def main(argv: list[str]) -> None:
    """Serve one variant."""
    torch.set_num_threads(int(argv[1]))
    serve_side(lambda task: open_original(argv[0], task), ("pam-edge", "torch"))


if __name__ == "__main__":
    main(sys.argv[1:])
