"""The first minute: a rendered scene, a click on three of its objects, their masks and words, one picture;
then a rendered clip, a box around an object, its masks and what happens to it, one short film.

    python -m pam_edge.benchmarks.demo BUNDLE --out FOLDER [--first]

Knows a bundle and the rendered world; `make demo` exports the bundle first.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from PIL import Image

import pam_edge
from pam_edge.benchmarks import synthetic
from pam_edge.benchmarks.demo import clip as demo_clip
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import PamEdgeError
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.pam import Pam
from pam_edge.pipeline.results import Answer, Region
from pam_edge.render.overlay import Shown, draw, shown

SEED = 339  # of a held-out scene: its combinations of kind, colour and pattern never came in training
OBJECTS = 3
TASKS = ("recognize", "explain", "brief", "detailed")
MAX_TOKENS = 64


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns the exit code (see errors.py)."""
    parser = argparse.ArgumentParser(prog="python -m pam_edge.benchmarks.demo", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument("--first", action="store_true", help="one click alone; needs no torch and no export")
    given = parser.parse_args(argv)
    try:
        if given.first:
            first(given.bundle, given.out)
        else:
            show(given.bundle, given.out)
    except PamEdgeError as e:
        print(f"demo: {e}", file=sys.stderr)  # noqa: T201 - a command of its own
        return e.exit_code
    return 0


def first(folder: Path, out: Path) -> None:
    """Write `scene.png` and `first.png` into `out`: one click's mask and words. `folder` may be `nano`."""
    clock = time.perf_counter()
    scene = synthetic.scene(SEED, split="heldout")
    picture = Image.fromarray(scene.image)
    out.mkdir(parents=True, exist_ok=True)
    picture.save(out / "scene.png")
    biggest = max(scene.objects, key=lambda obj: int(obj.mask.sum()))
    x, y = synthetic.centre_click(biggest.mask)
    with pam_edge.load(folder) as pam:
        result = pam(picture, point=(x, y))
        result.save(out / "first.png")
    _print(f"\nFirst answer, of the packaged bundle: a click at ({x:.0f}, {y:.0f}) on {out / 'scene.png'}")
    _print(f"   {'mask':<10} {int(result.mask.sum())} pixels, predicted IoU {result.score:.2f}")
    _print(f"   {'words':<10} {result.text}")
    _print(f"   {'picture':<10} {out / 'first.png'}, after {time.perf_counter() - clock:.1f} s\n")


def show(folder: Path, out: Path) -> None:
    """Write `scene.png` and `demo.png`, then `clip.webp` and `clip.png`, into `out`; print what was found,
    and how long it took.
    """
    clock = time.perf_counter()
    scene = synthetic.scene(SEED, split="heldout")
    picture = Image.fromarray(scene.image)
    out.mkdir(parents=True, exist_ok=True)
    picture.save(out / "scene.png")
    bundle = Bundle.open(folder)
    if bundle.manifest.weights.kind == "random":
        _print("These weights are random: the words below mean nothing.")
    pam = pam_edge.load(bundle)
    seen = pam.look(picture)
    found: list[Shown] = []
    biggest = sorted(scene.objects, key=lambda obj: -int(obj.mask.sum()))[:OBJECTS]
    for number, obj in enumerate(biggest, start=1):
        x, y = synthetic.centre_click(obj.mask)
        region = pam.segment(seen, Prompt(points=((x, y, 1),)))
        description = pam.describe(region, TASKS, max_tokens=MAX_TOKENS)
        for _ in description:
            pass
        answers = description.answers
        found.append(shown(region, answers))
        _print(f"\n{number}. click at ({x:.0f}, {y:.0f})")
        _tell(region, answers)
    draw(picture, found).save(out / "demo.png")
    seconds = time.perf_counter() - clock
    _print(f"\n{len(found)} clicks, {len(TASKS)} answers each, in {seconds:.1f} s, one look at the picture.")
    _print(f"picture: {out / 'demo.png'}")
    clip(pam, out)


def clip(pam: Pam, out: Path) -> None:
    """Write `clip.webp`, and `clip.png` with some of its frames; print what was said."""
    clock = time.perf_counter()
    told = demo_clip.tell(pam)
    box = ",".join(f"{edge:.0f}" for edge in told.prompt.box or ())
    _print(f"\nA clip of {len(told.masks)} frames, box {box} on the first:")
    for caption in told.captions:
        first, last = caption.frames
        _print(f"   {f'{first} to {last}':<10} {'(out of sight)' if caption.lost else caption.text}")
    seconds = time.perf_counter() - clock
    demo_clip.animate(told, out / "clip.webp")
    demo_clip.strip(told).save(out / "clip.png")
    _print(f"\n{len(told.masks)} frames followed and told in {seconds:.1f} s.")
    _print(f"film: {out / 'clip.webp'}, some of its frames: {out / 'clip.png'}")


def _tell(region: Region, answers: tuple[Answer, ...]) -> None:
    _print(f"   {'mask':<10} {int(region.mask.sum())} pixels, predicted IoU {region.score:.2f}")
    for answer in answers:
        _print(f"   {answer.task:<10} {answer.text}")


def _print(text: str) -> None:
    print(text)  # noqa: T201 - a command of its own


if __name__ == "__main__":
    sys.exit(main())
