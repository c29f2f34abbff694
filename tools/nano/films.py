"""Training clips of the rendered world, drawn once into memory-mapped arrays, and what vision sees of them.

    python -m tools.nano.films draw --out FOLDER --count 3200 --turning-from 480
    python -m tools.nano.films look --out FOLDER --sam run1/sam.pt

`draw` knows no model: frames squeezed to S x S as at inference, and for every pixel the number of the object
it shows. `look` keeps the image encoder's maps as float16, so that a training step of the memory part is
cheap; it is to be done again when the image encoder changes. Seeds 0 .. count-1 of the split `train` alone,
from `--turning-from` on those whose target turns: turns are rare, and hard to learn.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pam_edge.benchmarks.synthetic import LANGUAGES, Clip, Language, clip, event_caption, segment_caption
from pam_edge.benchmarks.synthetic.clips import poses
from pam_edge.benchmarks.synthetic.moves import Event
from pam_edge.bundle.config import NANO
from tools.nano import crew
from tools.nano.data import COLOUR_AT, KIND_AT, PATTERN_AT, SIDE, squeezed
from tools.nano.features import load_tower

MOST = 64  # frames of a clip
OWNERS = 8  # numbers a pixel can have: the ground, up to four still objects, the target, what covers it
CHUNK = 8  # frames encoded at once
NEVER = 1 << 30  # no clip has this seed
# How many frames and objects there are, which is the target (from 1), and the target's three class numbers.
FILM = np.dtype([(n, "i2") for n in ("frames", "objects", "target", "kind", "colour", "pattern")])


class Films(NamedTuple):
    """N clips. In `owner` 0 is the ground and k the k-th object; `film` has 0 frames where none was drawn."""

    images: NDArray[np.uint8]  # [N, MOST, S, S, 3]
    owner: NDArray[np.uint8]  # [N, MOST, S, S]
    area: NDArray[np.int32]  # [N, MOST, OWNERS] pixels of each number
    film: NDArray[Any]  # [N] FILM


class Looks(NamedTuple):
    """What the image encoder makes of every frame."""

    embed: NDArray[np.float16]  # [N, MOST, C, E, E] without `no_mem_embed`
    fine: NDArray[np.float16]  # [N, MOST, C/8, 4E, 4E]
    middle: NDArray[np.float16]  # [N, MOST, C/4, 2E, 2E]


class Told(NamedTuple):
    """What is to be said of a clip: per language of all of it and of each segment."""

    whole: dict[Language, str]
    parts: list[dict[Language, str]]
    alone: list[dict[Language, str]]  # the same as if nothing had been before
    events: list[Event]


def open_films(folder: Path) -> Films:
    """What `draw` has drawn so far."""
    return Films(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Films._fields))


def open_looks(folder: Path) -> Looks:
    """What `look` wrote."""
    return Looks(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Looks._fields))


def told(folder: Path) -> dict[int, Told]:
    """Captions by clip."""
    found = {}
    for path in sorted(folder.glob("told-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found[int(row["seed"])] = Told(*(row[name] for name in Told._fields))
    return found


def captions(filmed: Clip) -> Told:
    """All captions of one clip."""
    count = range(len(filmed.segments))
    parts = [{n: segment_caption(filmed, i, n) for n in LANGUAGES} for i in count]
    alone = [{n: segment_caption(filmed, i, n, alone=True) for n in LANGUAGES} for i in count]
    whole = {n: event_caption(filmed, n) for n in LANGUAGES}
    return Told(whole, parts, alone, [s.event for s in filmed.segments])


def small(owner: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Which object each pixel of the squeezed frame shows."""
    return np.asarray(Image.fromarray(owner).resize((SIDE, SIDE), Image.Resampling.NEAREST))


def turns(seed: int) -> bool:
    """Whether the target of that clip turns."""
    return len({pose.angle for pose in poses(seed, "train")[1]}) > 1


def _draw(given: argparse.Namespace, worker: int) -> None:
    folder: Path = given.out
    images, owner, area, film = (np.load(folder / f"{n}.npy", mmap_mode="r+") for n in Films._fields)
    with (folder / f"told-{worker}.jsonl").open("a", encoding="utf-8") as texts:
        for seed in range(worker, len(film), given.workers):
            if film[seed]["frames"] or (seed >= given.turning_from and not turns(seed)):
                continue
            filmed = clip(seed, "train")
            for k, (frame, shown) in enumerate(zip(filmed.frames, filmed.owners, strict=True)):
                images[seed, k], owner[seed, k] = squeezed(frame), small(shown)
                area[seed, k] = np.bincount(owner[seed, k].reshape(-1), minlength=OWNERS)
            texts.write(json.dumps({"seed": seed} | captions(filmed)._asdict(), ensure_ascii=False) + "\n")
            texts.flush()
            who, target = filmed.target, len(filmed.objects) - 1
            classes = (KIND_AT[who.kind], COLOUR_AT[who.colour], PATTERN_AT[who.pattern])
            film[seed] = (len(filmed.frames), len(filmed.objects), target, *classes)  # last: it is there now


@torch.no_grad()
def _look(given: argparse.Namespace, worker: int) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    warnings.filterwarnings("ignore", message=".*writable.*")
    films, tower = open_films(given.out), load_tower(given.sam)
    maps = [np.load(given.out / f"{n}.npy", mmap_mode="r+") for n in Looks._fields]
    for seed in range(worker, len(films.film), given.workers):
        count = int(films.film[seed]["frames"])
        for at in range(0, count, CHUNK):
            part = slice(at, min(at + CHUNK, count))
            seen = tower.encode_image(crew.normalized(torch.from_numpy(films.images[seed, part])))
            for array, value in zip(maps, (seen.image_embed, seen.high_res_0, seen.high_res_1), strict=True):
                array[seed, part] = value.half().numpy()


def allocate(folder: Path, shapes: dict[str, tuple[tuple[int, ...], Any]]) -> None:
    """Arrays that are not there yet. They are sparse files: what is never written takes no room."""
    for name, (shape, dtype) in shapes.items():
        if (folder / f"{name}.npy").exists():
            held = np.load(folder / f"{name}.npy", mmap_mode="r")
            if (held.shape, held.dtype) != (shape, np.dtype(dtype)):
                raise SystemExit(f"{folder} holds {name} of another size; take a fresh --out")
        else:
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", shape=shape, dtype=dtype)


def together(work: Callable[[argparse.Namespace, int], None], given: argparse.Namespace) -> None:
    """`work` in `given.workers` processes, each told its number; returns when all have ended."""
    crew_ = [multiprocessing.Process(target=work, args=(given, i)) for i in range(given.workers)]
    for process in crew_:
        process.start()
    for process in crew_:
        process.join()
    if any(process.exitcode for process in crew_):
        raise SystemExit("a process failed; see its traceback above")


def draw_all(given: argparse.Namespace) -> None:
    """Draw what is asked of the clips 0 .. `given.count` - 1 and not in `given.out` yet."""
    frames = (given.count, MOST)
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "images": ((*frames, SIDE, SIDE, 3), np.uint8),
        "owner": ((*frames, SIDE, SIDE), np.uint8),
        "area": ((*frames, OWNERS), np.int32),
        "film": ((given.count,), FILM),
    }
    allocate(given.out, shapes)
    together(_draw, given)


def main() -> None:
    """Draw clips that are not there yet, or look at those that are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=("draw", "look"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400, help="clips, for `draw`")
    parser.add_argument(
        "--turning-from",
        type=int,
        default=NEVER,
        help="from this clip on, draw those alone whose target turns",
    )
    parser.add_argument("--sam", type=Path, help="weights, for `look`")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.verb == "draw":
        draw_all(given)
        return
    if given.sam is None:
        parser.error("`look` needs --sam")
    frames = open_films(given.out).owner.shape[:2]
    c, e = NANO.vision.d_model, NANO.vision.embed_size
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "embed": ((*frames, c, e, e), np.float16),
        "fine": ((*frames, c // 8, 4 * e, 4 * e), np.float16),
        "middle": ((*frames, c // 4, 2 * e, 2 * e), np.float16),
    }
    allocate(given.out, shapes)
    together(_look, given)


if __name__ == "__main__":
    main()
