"""The golden checkpoint, rebuilt: a real PAM folder and a SAM 2 `.pt`, every number a function of its key.

`shapes.json` lists keys and shapes; the reference outputs of exactly these weights are in `golden.npz`.
"""

from __future__ import annotations

import json
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
SEED = 7
SHARDS = 3
BUFFER = "buffer."


@dataclass(frozen=True)
class GoldenFolder:
    """Where the checkpoint lies."""

    weights: Path
    sam2: Path
    sam2_config: Path


def shapes() -> dict[str, tuple[int, ...]]:
    """Every key of the golden checkpoint: SAM 2's own bare, the PAM folder's under `model.`."""
    listed: dict[str, list[int]] = json.loads((HERE / "shapes.json").read_text())
    return {key: tuple(shape) for key, shape in listed.items()}


def seeded_array(key: str, shape: tuple[int, ...]) -> npt.NDArray[np.float16]:
    """The numbers of one key; they are float16 numbers."""
    x = np.random.default_rng([SEED, zlib.crc32(key.encode())]).standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        gain = 1.5 if key.startswith(("model.layers", "model.embed")) else 1.0
        x *= gain / np.sqrt(np.prod(shape[1:]))
    else:
        x *= 0.1
        if "norm" in key and key.endswith("weight"):
            x += 1
    if key == "sam_mask_decoder.pred_obj_score_head.layers.2.bias":
        x += 1
    x = x.astype(np.float16).astype(np.float32)
    if key.endswith("positional_encoding_gaussian_matrix"):
        x *= np.sqrt(shape[-1])
    return x.astype(np.float16)


def write_golden_folder(root: Path, *, dtype: torch.dtype = torch.float16) -> GoldenFolder:
    """Write the PAM folder (sharded safetensors) and SAM 2's `.pt` below `root`."""
    folder, sam2 = root / "PAM-tiny", root / "sam2_tiny.pt"
    shutil.copytree(HERE / "checkpoint", folder)
    tensors = {key: torch.from_numpy(seeded_array(key, shape)).to(dtype) for key, shape in shapes().items()}
    ours = sorted(key for key in tensors if key.startswith("model."))
    weight_map = {}
    for n in range(SHARDS):
        name = f"model-{n + 1:05}-of-{SHARDS:05}.safetensors"
        save_file({key: tensors[key] for key in ours[n::SHARDS]}, folder / name)
        weight_map |= dict.fromkeys(ours[n::SHARDS], name)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    state = {
        key.removeprefix(BUFFER): tensor.float() for key, tensor in tensors.items() if key not in weight_map
    }
    torch.save({"model": state}, sam2)
    return GoldenFolder(folder, sam2, HERE / "sam2_tiny.json")
