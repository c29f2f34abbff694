"""One side as a worker: PAM's own flow, or a rebuilt system's, on the same engine.

    python -m pam_edge.benchmarks.paper_claims.side BUNDLE THREADS [SYSTEM]

With SYSTEM (`systems.as_word`) the bundle is a rebuilt one. An iteration is one item from its pictures to the
last token: `vision` until the language model can read, `prefill`, `decode`, `total`, in ns; PAM also reports
`masks`, what its masks alone took.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from pam_edge.benchmarks.harness.messages import Iteration, Versions
from pam_edge.benchmarks.harness.opened import Opened
from pam_edge.benchmarks.harness.scene import boxes, picture
from pam_edge.benchmarks.harness.watching import forget_peak, memory
from pam_edge.benchmarks.harness.worker import serve
from pam_edge.benchmarks.paper_claims.published import Task
from pam_edge.benchmarks.paper_claims.requests import Iterate, Load
from pam_edge.benchmarks.paper_claims.systems import TEXT, System, of_word
from pam_edge.benchmarks.speed.tasks import GRAPHS, Work, iterate
from pam_edge.core.errors import QualityError
from pam_edge.core.system_info import return_freed_memory
from pam_edge.image.preprocess import Prompt, pixels
from pam_edge.video.stream import Caption, Plan, follow
from pam_edge.video.tracker import Frame

FRAMES = 16  # of the clip: the fewest that PAM reads without repeating one
Run = Callable[[int], Mapping[str, int]]  # tokens of the answer -> ns by measure
Floats = npt.NDArray[np.float32]


def clip() -> list[Image.Image]:
    """The clip that every side is given: a rendered scene that drifts a pixel a frame."""
    shown = picture()
    return [ImageChops.offset(shown, n, 0) for n in range(FRAMES)]


class Ours:
    """PAM's flow of this toolkit, one item at a time, nothing kept from one to the next."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._opened = Opened(folder, threads)

    def open(self, task: Task) -> Run:
        """Open the graphs of a task; one iteration of it."""
        self._opened.open(GRAPHS[task])
        return self._image if task == "image" else self._video

    def _image(self, tokens: int) -> dict[str, int]:
        times = iterate(self._opened, "image", Work(tokens=tokens), lambda stage: None).samples
        found = {name: times[name][0] for name in ("total", "prefill", "decode")}
        vision = found["total"] - found["prefill"] - found["decode"]
        return {**found, "vision": vision, "masks": times["first mask"][0]}

    def _video(self, tokens: int) -> dict[str, int]:
        shots, (box,) = clip(), boxes(1)
        plan = Plan("clip", length=FRAMES, max_tokens=tokens)
        told: Caption | None = None
        masks = 0.0
        began = time.perf_counter_ns()
        for event in follow(self._opened.pam(), shots, {0: {1: Prompt(box=box)}}, plan):
            match event:
                case Frame():
                    masks += sum(event.timing_ms[name] for name in ("encode", "memory", "mask", "remember"))
                case Caption():
                    told = event
                case _:
                    pass
        total = time.perf_counter_ns() - began
        if told is None or len(told.token_ids) != tokens:
            said = 0 if told is None else len(told.token_ids)
            raise QualityError(f"PAM said {said} tokens of the clip; {tokens} were asked for")
        found = {name: round(told.timing_ms[name] * 1e6) for name in ("prefill", "decode")}
        vision = total - found["prefill"] - found["decode"]
        return {**found, "total": total, "vision": vision, "masks": round(masks * 1e6)}


class Rebuilt:
    """A rebuilt system's flow: looks, connects, reads, says."""

    def __init__(self, folder: Path, threads: int, system: System) -> None:
        self._opened, self._system = Opened(folder, threads), system

    def open(self, task: Task) -> Run:
        """Open all graphs; one iteration of a task."""
        self._opened.open(graph.name for graph in self._opened.bundle.manifest.graphs)
        return lambda tokens: self._run(task, tokens)

    def _run(self, task: Task, tokens: int) -> dict[str, int]:
        shots = [picture()] if task == "image" else clip()
        opened, wanted = self._opened.decoder(), self._system.visual_tokens(task)
        text = opened.embed(list(range(TEXT)))
        decoder = opened.branch(1)
        began = time.perf_counter_ns()
        seen = self._see(shots, task)
        if seen.shape[0] != wanted:
            raise QualityError(f"{self._system.name} reads {seen.shape[0]} tokens; {wanted} were meant")
        looked = time.perf_counter_ns()
        prompt = np.concatenate([text[: TEXT // 2], seen, text[TEXT // 2 :]])
        token = int(decoder.prefill([prompt])[0].argmax())
        read = time.perf_counter_ns()
        for _ in range(tokens - 1):  # the first token came with the prompt
            token = int(decoder.step([token])[0].argmax())
        done = time.perf_counter_ns()
        return {
            "vision": looked - began,
            "prefill": read - looked,
            "decode": done - read,
            "total": done - began,
        }

    def _see(self, shots: Sequence[Image.Image], task: Task) -> Floats:
        """What the language model reads of the pictures, [tokens, hidden]."""
        system, size = self._system, self._system.tower.image
        if task == "video":
            chosen = np.linspace(0, len(shots) - 1, system.frames, dtype=int)
            shots = [shots[i] for i in chosen]
        match system.bridge:
            case "linear":
                return np.concatenate([self._tower(pixels(shot, size), "tokens")[0] for shot in shots])
            case "downsample":
                return np.concatenate([self._focal(shot, size) for shot in shots])
            case "stc":
                features = [self._tower(pixels(shot, size), "features") for shot in shots]
                self._tower(pixels(shots[0], size), "features")  # the frame with the mask, once more
                connector = self._opened.session("connector")
                tokens: Floats = connector.run({"features": np.concatenate(features)})["tokens"][0]
                return tokens

    def _tower(self, image: Floats, output: str) -> Floats:
        found: Floats = self._opened.session("tower").run({"image": image})[output]
        return found

    def _focal(self, shot: Image.Image, size: int) -> Floats:
        """The whole picture, then what is around the object at three times its size."""
        context = self._tower(pixels(shot, size), "features")
        left, top, right, bottom = boxes(1)[0]
        wide, high = right - left, bottom - top
        around = (
            max(0, int(left - wide)),
            max(0, int(top - high)),
            min(int(right + wide), shot.width),
            min(int(bottom + high), shot.height),
        )
        crop = shot.crop(around)
        session = self._opened.session("focal")
        tokens: Floats = session.run({"image": pixels(crop, size), "context": context})["tokens"][0]
        return tokens


def serve_side(open_side: Callable[[Task], Run], packages: Sequence[str]) -> None:
    """Serve until the pipe ends.

    An iteration begins with nothing of the one before and reports the most memory that it took, weights
    included, where the system can say that.
    """
    held: list[Run] = []

    def load(asked: Load) -> Versions:
        held.append(open_side(asked.task))
        return {package: version(package) for package in packages}

    def run(asked: Iterate) -> Iteration:
        gc.collect()
        return_freed_memory()
        anew = forget_peak()
        found = Iteration(samples={name: [ns] for name, ns in held[0](asked.tokens).items()})
        if anew:
            found.add("peak memory", memory()["peak"])
        return found

    serve({Load: load, Iterate: run})


def main(argv: list[str]) -> None:
    """Serve PAM, or the system of the third word."""
    folder, threads = Path(argv[0]), int(argv[1])
    side = Rebuilt(folder, threads, of_word(argv[2])) if len(argv) > 2 else Ours(folder, threads)
    serve_side(side.open, ("pam-edge", "onnxruntime"))


if __name__ == "__main__":
    main(sys.argv[1:])
