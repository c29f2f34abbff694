"""What the frozen vision part sees of many regions, kept as float16 for the language stage.

    python -m tools.nano.features --scenes FOLDER --sam run1/sam.pt --out FOLDER --scenes-to 8000

Per region: one prompt (a click or a box), the region's map and its two mask tokens, exactly as at inference.
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pam_edge.bundle.config import NANO
from pam_edge.export.checkpoint.checkpoint import load_vision, open_checkpoint
from pam_edge.export.model.vision import VisionTower
from tools.nano import crew
from tools.nano.data import open_rendered
from tools.nano.prompting import prompts_for

CHUNK = 8  # pictures at once


class Features(NamedTuple):
    """R regions. `which` names scene and object (from 0)."""

    maps: NDArray[np.float16]  # [R, C, E, E]
    tokens: NDArray[np.float16]  # [R, 2, C]
    which: NDArray[np.int32]  # [R, 2], -1 where not done


def open_features(folder: Path) -> Features:
    """What `main` wrote."""
    return Features(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Features._fields))


def load_tower(path: Path) -> VisionTower:
    """The averaged weights of a `train_sam` or `train_memory` checkpoint, or a PAM folder such as `nano`."""
    if path.suffix != ".pt":
        return load_vision(open_checkpoint(str(path))).eval()
    tower = VisionTower(NANO.vision)
    state = torch.load(path, weights_only=True, map_location="cpu")
    tower.load_state_dict(state["average"]["values"])
    return tower.eval()


@torch.no_grad()
def _see(given: argparse.Namespace, worker: int, starts: NDArray[Any]) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    scenes, tower = open_rendered(given.scenes), load_tower(given.sam)
    maps, tokens, which = (np.load(given.out / f"{n}.npy", mmap_mode="r+") for n in Features._fields)
    position, pe = tower.image_encoder.trunk.position(), tower.image_pe()
    first = given.scenes_from
    for at in range(first + worker * CHUNK, given.scenes_to, given.workers * CHUNK):
        chosen = range(at, min(at + CHUNK, given.scenes_to))
        fine, middle, embed = tower.image_encoder(
            crew.normalized(torch.from_numpy(scenes.images[at : chosen.stop])), position
        )
        head = tower.sam_mask_decoder
        whole = (tower.without_memory(embed), head.conv_s0(fine), head.conv_s1(middle))
        for i, scene in enumerate(chosen):
            count = int(scenes.counts[scene])
            rng = np.random.default_rng([given.seed, scene])
            objects = scenes.objects[scene, :count]
            prompts = prompts_for(rng, (scenes.owner[scene], scenes.depth[scene]), objects, count)
            seen = tower.decode_masks(
                whole[0][i : i + 1],
                (whole[1][i : i + 1], whole[2][i : i + 1]),
                torch.from_numpy(prompts.coords),
                torch.from_numpy(prompts.labels),
                image_pe=pe,
            )
            rows = slice(int(starts[scene - first]), int(starts[scene - first]) + count)
            maps[rows] = seen.region_embed.half().numpy()
            tokens[rows] = seen.mask_tokens.half().numpy()
            # A prompt at the ground shows no object: such rows stay marked as not done.
            number = np.where(prompts.target > 0, prompts.target - 1, -1)
            which[rows] = np.stack([np.full(count, scene), number], axis=1)


def main() -> None:
    """Look at every region of a range of scenes once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--sam", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes-from", type=int, default=0)
    parser.add_argument("--scenes-to", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    counts = open_rendered(given.scenes).counts[given.scenes_from : given.scenes_to].astype(np.int64)
    starts, total = np.cumsum(counts) - counts, int(counts.sum())
    c, e = NANO.vision.d_model, NANO.vision.embed_size
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "maps": ((total, c, e, e), np.float16),
        "tokens": ((total, 2, c), np.float16),
        "which": ((total, 2), np.int32),
    }
    for name, (shape, dtype) in shapes.items():
        array = np.lib.format.open_memmap(given.out / f"{name}.npy", mode="w+", shape=shape, dtype=dtype)
        if name == "which":
            array[:] = -1
    crew_ = [multiprocessing.Process(target=_see, args=(given, i, starts)) for i in range(given.workers)]
    for process in crew_:
        process.start()
    for process in crew_:
        process.join()


if __name__ == "__main__":
    main()
