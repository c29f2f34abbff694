"""Our own engine as a worker: the decoder alone, the image encoder alone, or the whole flow.

    python -m pam_edge.benchmarks.competitors.ours BUNDLE THREADS

Stop tokens are ignored everywhere, so that every side says as much.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pam_edge.benchmarks.harness.opened import Opened
from pam_edge.benchmarks.harness.scene import TASKS, clicks, picture
from pam_edge.benchmarks.harness.worker import serve
from pam_edge.image.preprocess import Prompt, load_image, normalized, resized
from pam_edge.pipeline.pam import Pam


class Ours(Opened):
    """A bundle, and what sides are compared in."""

    def turn(self, asked: Mapping[str, Any]) -> dict[str, list[int]]:
        """One prompt of token ids into an empty cache, then greedy tokens."""
        decoder = self.decoder().branch(1)
        clock = time.perf_counter_ns()
        token = int(decoder.prefill([decoder.embed(asked["tokens"])])[0].argmax())
        times = [time.perf_counter_ns()]
        for _ in range(asked["steps"]):
            token = int(decoder.step([token])[0].argmax())
            times.append(time.perf_counter_ns())
        return {"prefill": [times[0] - clock], "decode": [times[-1] - times[0]]}

    def encode(self, _: Mapping[str, Any]) -> dict[str, list[int]]:
        """The image encoder on one prepared picture."""
        size = self.bundle.manifest.variant.vision.image_size
        image = np.ascontiguousarray(normalized(resized(load_image(picture()), size)), np.float32)
        session = self.session("image_encoder")
        clock = time.perf_counter_ns()
        session.run({"image": image})
        return {"encode": [time.perf_counter_ns() - clock]}

    def once(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """One click, all tasks: one look, one prefix, the tasks as branches of it."""
        return self._answers([self.pam()], [asked["tasks"]], asked["tokens"])

    def apart(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The same tasks, each as a call of its own from the picture on."""
        tasks = asked["tasks"]
        return self._answers([self.pam() for _ in tasks], [[task] for task in tasks], asked["tokens"])

    def _answers(self, pams: Sequence[Pam], calls: Sequence[Sequence[str]], tokens: int) -> dict[str, Any]:
        image, point = picture(), clicks(1)[0]
        said: list[list[int]] = []
        clock = time.perf_counter_ns()
        for pam, tasks in zip(pams, calls, strict=True):
            _, answers = pam.ask(image, Prompt(points=((*point, 1),)), list(tasks), max_tokens=tokens)
            said += [list(answer.token_ids) for answer in answers]
        spent = time.perf_counter_ns() - clock
        return {"total": [spent], "said": said}

    def clicks(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Clicks on one picture in a fresh `Pam`, each with one answer; the last is then made once more."""
        pam, image = self.pam(), picture()
        points = clicks(asked["clicks"])
        masks, wholes = [], []
        for point in [*points, points[-1]]:
            clock = time.perf_counter_ns()
            region = pam.segment(pam.look(image), Prompt(points=((*point, 1),)))
            masks.append(time.perf_counter_ns() - clock)
            for _ in pam.describe(region, [TASKS[0]], max_tokens=asked["tokens"]):
                pass
            wholes.append(time.perf_counter_ns() - clock)
        found = {
            "first mask": masks[:1],
            "later mask": masks[1:-1],
            "first click": wholes[:1],
            "later click": wholes[1:-1],
            "same click again": wholes[-1:],
        }
        return {"times": found, "cache": pam.cache}


def main(argv: list[str]) -> None:
    """Serve whatever is asked of one bundle."""
    held: list[Ours] = []

    def load(asked: Mapping[str, Any]) -> dict[str, Any]:
        ours = Ours(Path(argv[0]), int(argv[1]))
        held.append(ours)
        if asked.get("decoder"):
            ours.decoder()
        return {}

    serve(
        {
            "load": load,
            "turn": lambda asked: held[0].turn(asked),
            "encode": lambda asked: held[0].encode(asked),
            "once": lambda asked: held[0].once(asked),
            "apart": lambda asked: held[0].apart(asked),
            "clicks": lambda asked: held[0].clicks(asked),
        }
    )


if __name__ == "__main__":
    main(sys.argv[1:])
