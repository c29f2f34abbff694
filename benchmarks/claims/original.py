"""The original's flow in PyTorch as a worker.

    python -m pam_edge.benchmarks.claims.original VARIANT THREADS

One click and one answer, as `benchmarks/peers/pytorch.py` does it, in the numbers that the original computes
in: the language model's weights in bfloat16, everything else under autocast to it. Weights are seeded random
ones.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch

from pam_edge.benchmarks.claims.published import Task
from pam_edge.benchmarks.claims.side import Turn, serve_side
from pam_edge.benchmarks.peers.pytorch import answers
from pam_edge.benchmarks.tasks import ANSWER
from pam_edge.errors import QualityError, UsageError
from pam_edge.export.checkpoint import Checkpoint
from pam_edge.export.model.language import Language


def half_language(checkpoint: Checkpoint) -> Language:
    """The language model in bfloat16, filled a tensor at a time: never all of it in float32."""
    with torch.device("meta"):
        module = Language(checkpoint.variant.language)
    held = {key: checkpoint.tensor(f"language.{key}").to(torch.bfloat16) for key in module.state_dict()}
    module.load_state_dict(held, assign=True)
    return module.eval().requires_grad_(False)


def open_original(variant: str, task: Task) -> Turn:
    """The flow over one picture. Raises UsageError for a clip: that flow is not built here."""
    if task != "image":
        raise UsageError("the original's flow over a clip is not built in PyTorch here")
    run = answers(variant, load=half_language)

    def turn(tokens: int) -> Mapping[str, int]:
        with torch.autocast("cpu", torch.bfloat16):
            spent, (said,) = run([ANSWER], tokens)
        if len(said) != tokens:
            raise QualityError(f"the original said {len(said)} tokens; {tokens} were asked for")
        return {"total": spent}

    return turn


def main(argv: list[str]) -> None:
    """Serve one variant."""
    torch.set_num_threads(int(argv[1]))
    serve_side(lambda task: open_original(argv[0], task), ("pam-edge", "torch"))


if __name__ == "__main__":
    main(sys.argv[1:])
