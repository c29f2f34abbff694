"""Our own engine as a worker: the decoder alone, the image encoder alone, or the whole flow.

    python -m pam_edge.benchmarks.competitors.ours BUNDLE THREADS

Stop tokens are ignored everywhere, so that every side says as much.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pam_edge.benchmarks.competitors.requests import Answer, Answered, Clicks, Decode, Encode, Load
from pam_edge.benchmarks.harness.messages import Iteration, Versions
from pam_edge.benchmarks.harness.opened import Opened
from pam_edge.benchmarks.harness.scene import TASKS, clicks, picture
from pam_edge.benchmarks.harness.worker import serve
from pam_edge.image.preprocess import Prompt, load_image, normalized, resized
from pam_edge.pipeline.pam import Pam


class Ours(Opened):
    """A bundle, and what sides are compared in."""

    def load(self, asked: Load) -> Versions:
        """Open the decoder where it is needed; other graphs are opened when they are first run."""
        if asked.what != "encoder":
            self.decoder()
        return {}

    def decode(self, asked: Decode) -> Iteration:
        """One prompt of token ids into an empty cache, then greedy tokens."""
        decoder, found = self.decoder().branch(1), Iteration()
        clock = time.perf_counter_ns()
        token = int(decoder.prefill([decoder.embed(asked.tokens)])[0].argmax())
        read = time.perf_counter_ns()
        for _ in range(asked.steps):
            token = int(decoder.step([token])[0].argmax())
        found.add("prefill", read - clock)
        found.add("decode", time.perf_counter_ns() - read)
        return found

    def encode(self, _: Encode) -> Iteration:
        """The image encoder on one prepared picture."""
        size = self.bundle.manifest.variant.vision.image_size
        image = np.ascontiguousarray(normalized(resized(load_image(picture()), size)), np.float32)
        session = self.session("image_encoder")
        clock = time.perf_counter_ns()
        session.run({"image": image})
        return Iteration(samples={"encode": [time.perf_counter_ns() - clock]})

    def answer(self, asked: Answer) -> Answered:
        """One click, all tasks: `once` as branches of one prefix after one look, `apart` each as a call of
        its own from the picture on.
        """
        if asked.flow == "once":
            return self._answers([self.pam()], [asked.tasks], asked.tokens)
        return self._answers([self.pam() for _ in asked.tasks], [[t] for t in asked.tasks], asked.tokens)

    def _answers(self, pams: Sequence[Pam], calls: Sequence[Sequence[str]], tokens: int) -> Answered:
        image, point = picture(), clicks(1)[0]
        said: list[list[int]] = []
        clock = time.perf_counter_ns()
        for pam, tasks in zip(pams, calls, strict=True):
            _, answers = pam.ask(image, Prompt(points=((*point, 1),)), list(tasks), max_tokens=tokens)
            said += [list(answer.token_ids) for answer in answers]
        return Answered(samples={"total": [time.perf_counter_ns() - clock]}, said=said)

    def clicks(self, asked: Clicks) -> Iteration:
        """Clicks on one picture in a fresh `Pam`, each with one answer; the last is then made once more."""
        pam, image = self.pam(), picture()
        points = clicks(asked.clicks)
        masks, wholes = [], []
        for point in [*points, points[-1]]:
            clock = time.perf_counter_ns()
            region = pam.segment(pam.look(image), Prompt(points=((*point, 1),)))
            masks.append(time.perf_counter_ns() - clock)
            for _ in pam.describe(region, [TASKS[0]], max_tokens=asked.tokens):
                pass
            wholes.append(time.perf_counter_ns() - clock)
        samples = {
            "first mask": masks[:1],
            "later mask": masks[1:-1],
            "first click": wholes[:1],
            "later click": wholes[1:-1],
            "same click again": wholes[-1:],
        }
        counters = {name: float(count) for name, count in pam.cache.items()}
        return Iteration(samples=samples, figures=dict.fromkeys(samples, counters))


def main(argv: list[str]) -> None:
    """Serve whatever is asked of one bundle."""
    ours = Ours(Path(argv[0]), int(argv[1]))
    serve(
        {
            Load: ours.load,
            Decode: ours.decode,
            Encode: ours.encode,
            Answer: ours.answer,
            Clicks: ours.clicks,
        }
    )


if __name__ == "__main__":
    main(sys.argv[1:])
