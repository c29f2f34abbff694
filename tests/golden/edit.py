"""Ways to change the golden folder on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from golden.seeded import GoldenFolder
from safetensors.torch import load_file, save_file

from pam_edge.export.checkpoint.checkpoint import Checkpoint, open_checkpoint

SHARD = "model-00001-of-00003.safetensors"
INDEX = "model.safetensors.index.json"


def opened(folder: GoldenFolder) -> Checkpoint:
    return open_checkpoint(str(folder.weights), sam2=folder.sam2, sam2_config=folder.sam2_config)


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_shard(folder: GoldenFolder, **changes: torch.Tensor | None) -> None:
    """Replace (or with None drop) tensors of the first shard; the index stays."""
    tensors = load_file(folder.weights / SHARD)
    for key, tensor in changes.items():
        tensors.pop(key, None)
        if tensor is not None:
            tensors[key] = tensor
    save_file(tensors, folder.weights / SHARD)


def one_of_first_shard(folder: GoldenFolder, part: str) -> str:
    return next(key for key in load_file(folder.weights / SHARD) if part in key)


def merge_shards(folder: GoldenFolder, extra: dict[str, torch.Tensor] | None = None) -> None:
    """Make the folder a single file, perhaps with further tensors."""
    shards = sorted(folder.weights.glob("model-*.safetensors"))
    tensors = {key: value for shard in shards for key, value in load_file(shard).items()}
    for path in [*shards, folder.weights / INDEX]:
        path.unlink()
    save_file(tensors | (extra or {}), folder.weights / "model.safetensors")


def split_tokenizer(weights: Path) -> tuple[bytes, dict[str, int]]:
    """Rewrite tokenizer.json as Qwen2's vocab.json and merges.txt, control tokens after the vocabulary."""
    raw = (weights / "tokenizer.json").read_bytes()
    model = json.loads(raw)["model"]
    words = [word for word in sorted(model["vocab"], key=model["vocab"].get) if not word.startswith("<|")]
    (weights / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (weights / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n")
    (weights / "tokenizer.json").unlink()
    return raw, {
        text: len(words) + n for n, text in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    }
