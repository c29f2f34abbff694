"""Weights in the files PAM comes in: bfloat16 safetensors in shards, and SAM 2's `.pt` in float32.

    python -m tools.real_format random:pam-1.5b --out FOLDER

Writes FOLDER/pam and FOLDER/sam2.pt, to export from as from the real ones, and four drawn pictures for
`--calibrate FOLDER/pictures`. In memory are one shard and what SAM 2's file holds, however large the model.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from pam_edge.bundle.config import LanguageConfig
from pam_edge.export.checkpoint.checkpoint import Checkpoint, open_checkpoint
from pam_edge.export.checkpoint.tokenizer_files import END_OF_TEXT, IM_END, token_id
from pam_edge.export.checkpoint.weight_files import INDEX
from pam_edge.image.preprocess import load_image
from pam_edge.quantize.calibration import drawn_samples
from tools.nano.ship import original_key, shape_fields
from tools.nano.words import tokenizer_config

SHARD = 1 << 29  # values: 1 GB
ROWS = 1 << 24  # values of a tensor in float32 at once


def write(checkpoint: Checkpoint, folder: Path, *, shard: int = SHARD) -> None:
    """Write `pam` and `sam2.pt` into `folder`; at most `shard` values a shard, but for a larger tensor."""
    place = folder / "pam"
    place.mkdir(parents=True)
    every = sorted(checkpoint.keys())
    vision = {
        key.removeprefix("vision."): checkpoint.tensor(key) for key in every if key.startswith("vision.")
    }
    torch.save({"model": vision}, folder / "sam2.pt")
    del vision
    shards: list[list[str]] = [[]]
    held = 0
    for key in every:
        if key.startswith("vision."):
            continue
        size = math.prod(checkpoint.shape(key))
        if shards[-1] and held + size > shard:
            shards.append([])
            held = 0
        shards[-1].append(key)
        held += size
    names: dict[str, str] = {}
    for n, keys in enumerate(shards):
        name = f"model-{n + 1:05}-of-{len(shards):05}.safetensors"
        tensors = {original_key(key): _bfloat16(checkpoint, key) for key in keys}
        save_file(tensors, place / name, metadata={"format": "pt"})
        names |= dict.fromkeys(tensors, name)
        del tensors
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json.decode())
    stops = [token_id(tokenizer, IM_END), token_id(tokenizer, END_OF_TEXT)]
    documents = {
        INDEX: {"metadata": {}, "weight_map": names},
        "config.json": _config(checkpoint.variant.language, stops),
        "generation_config.json": {"eos_token_id": stops, "do_sample": False},
    }
    for name, document in documents.items():
        (place / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (place / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    (place / "tokenizer_config.json").write_text(tokenizer_config(), encoding="utf-8")


def _bfloat16(checkpoint: Checkpoint, key: str) -> Tensor:
    shape = checkpoint.shape(key)
    if not shape:
        return checkpoint.tensor(key).bfloat16()
    found = torch.empty(shape, dtype=torch.bfloat16)
    step = max(1, ROWS // math.prod(shape[1:]))
    for start in range(0, shape[0], step):
        stop = min(start + step, shape[0])
        found[start:stop] = checkpoint.rows(key, start, stop)
    return found


def _config(language: LanguageConfig, stops: Sequence[int]) -> dict[str, Any]:
    return {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava_qwen",
        **shape_fields(language),
        "torch_dtype": "bfloat16",
        "eos_token_id": stops[0],
    }


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", help="as `pam-edge export --weights` takes them")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    checkpoint = open_checkpoint(given.weights)
    write(checkpoint, given.out)
    (given.out / "pictures").mkdir()
    samples = drawn_samples(checkpoint.variant.vision.image_size)
    for n in range(samples.count):
        load_image(samples.at(n).image).save(given.out / "pictures" / f"{n}.png")


if __name__ == "__main__":
    main()
