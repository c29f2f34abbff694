"""What the frozen vision part, memory included, sees of drawn clips' targets, for the language stage.

    python -m tools.nano.film_features --films FOLDER --sam mem/memory.pt --out FOLDER

Per segment, as in a stream: the target's box on its first frame, give or take, then sixteen frames followed.
Per clip: a click or a box on the first frame, then the sixteen frames PAM samples of it and one between any
two, since of others only what is remembered would count. Reads what `films` drew and saw.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pam_edge.bundle.config import NANO
from pam_edge.export.model.tracker import track
from pam_edge.export.model.vision import Encoded, VisionTower
from pam_edge.video.clip_caption import FRAMES, frame_choice
from tools.nano.features import load_tower
from tools.nano.films import Looks, allocate, open_films, open_looks, together
from tools.nano.prompting import box
from tools.nano.tracks import inside

PARTS = 4  # segments of a clip, at most
WHOLE = PARTS  # the row of a clip as a whole


class FilmFeatures(NamedTuple):
    """Per clip a row for each segment and one, `WHOLE`, for all of it."""

    maps: NDArray[np.float16]  # [N, PARTS + 1, FRAMES, C, E, E]
    tokens: NDArray[np.float16]  # [N, PARTS + 1, FRAMES, 2, C]
    done: NDArray[np.bool_]  # [N, PARTS + 1]


def open_film_features(folder: Path) -> FilmFeatures:
    """What `main` wrote."""
    return FilmFeatures(*(np.load(folder / f"{n}.npy", mmap_mode="r") for n in FilmFeatures._fields))


def boxed(rng: np.random.Generator, mask: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """The box of a mask that is not empty, give or take, as a prompt for one track."""
    ys, xs = np.nonzero(mask)
    exact = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.float32)
    return torch.from_numpy(box(rng, exact))[None], torch.tensor([[2.0, 3.0]])


def pointed(rng: np.random.Generator, mask: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """A box or a click."""
    if rng.random() < 0.7:
        return boxed(rng, mask)
    return torch.tensor([[inside(rng, mask)]], dtype=torch.float32), torch.ones(1, 1)


def see(
    tower: VisionTower, looks: Looks, film: int, *, frames: list[int], prompt: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Follow one object through `frames` of a clip -> maps [F, C, E, E], mask tokens [F, 2, C]."""
    shots = (Encoded(*(torch.from_numpy(field[film, n]).float()[None] for field in looks)) for n in frames)
    found = list(track(tower, shots, len(frames), *prompt))
    return torch.cat([f.region_embed for f in found]), torch.cat([f.mask_tokens for f in found])


@torch.no_grad()
def _see(given: argparse.Namespace, worker: int) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    films, looks, tower = open_films(given.films), open_looks(given.films), load_tower(given.sam)
    maps, tokens, done = (np.load(given.out / f"{n}.npy", mmap_mode="r+") for n in FilmFeatures._fields)
    for seed in range(worker, len(done), given.workers):
        rng = np.random.default_rng([given.seed, seed])
        count, target = int(films.film[seed]["frames"]), int(films.film[seed]["target"])
        if not count:
            continue
        routes = {
            part: list(range(start, start + FRAMES)) for part, start in enumerate(range(0, count, FRAMES))
        }
        wanted = frame_choice(count)
        between = [(a + b) // 2 for a, b in pairwise(wanted)]
        routes[WHOLE] = sorted({*wanted, *between})
        for row, frames in routes.items():
            mask = films.owner[seed, frames[0]] == target
            if done[seed, row] or not mask.any():
                continue
            prompt = pointed(rng, mask) if row == WHOLE else boxed(rng, mask)
            seen = see(tower, looks, seed, frames=frames, prompt=prompt)
            kept = [frames.index(n) for n in wanted] if row == WHOLE else list(range(FRAMES))
            maps[seed, row], tokens[seed, row] = (field[kept].half().numpy() for field in seen)
            done[seed, row] = True  # last: this says that the row is there


def main() -> None:
    """Look at every segment and clip that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--sam", type=Path, required=True, help="weights with a trained memory")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=15)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = (len(open_films(given.films).film), PARTS + 1)
    c, e = NANO.vision.d_model, NANO.vision.embed_size
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "maps": ((*rows, FRAMES, c, e, e), np.float16),
        "tokens": ((*rows, FRAMES, 2, c), np.float16),
        "done": (rows, np.bool_),
    }
    allocate(given.out, shapes)
    together(_see, given)


if __name__ == "__main__":
    main()
