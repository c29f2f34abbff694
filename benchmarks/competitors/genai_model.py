"""A language model's shapes as an int4 model of onnxruntime-genai, made by its own model builder.

    python -m pam_edge.benchmarks.competitors.genai_model CONFIG.json OUT

Runs in that peer's environment. The builder holds all weights in memory several times over, so it is given
three layers with seeded random weights; the middle one is then repeated, weights and all, as often as the
shape says. A whole build differs from that in nothing but the random numbers. Every option is the builder's
default for int4 on CPUs.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.external_data_helper import load_external_data_for_model
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models

_BUILT = 3  # layers
_SEED = 7
_MODEL = "model.onnx"
_LAYER = re.compile(r"(layers\.|past_key_values\.|present\.)(\d+)")


def make(config: dict[str, Any], out: Path) -> None:
    """Write the model folder; `config` is a LanguageConfig's fields."""
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        few, built = Path(scratch) / "few", Path(scratch) / "built"
        layers = min(_BUILT, config["layers"])
        write_hf_folder({**config, "layers": layers}, few)
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(few), "-o", str(built)]
        subprocess.run([*command, "-p", "int4", "-e", "cpu", "-c", f"{scratch}/cache"], check=True)
        if config["layers"] > layers:
            lengthen(built, config["layers"])
        shutil.rmtree(out, ignore_errors=True)
        built.rename(out)


def write_hf_folder(config: dict[str, Any], folder: Path) -> None:
    """A Qwen2 folder with seeded random float32 weights, and a tokenizer that nothing is asked of."""
    folder.mkdir(parents=True)
    width, d = config["hidden_size"], config["head_dim"]
    queries, keys = config["heads"] * d, config["kv_heads"] * d
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    if not config["tied"]:
        shapes["lm_head.weight"] = (config["vocab_size"], width)
    for i in range(config["layers"]):
        at = f"model.layers.{i}"
        for name, rows in (("q", queries), ("k", keys), ("v", keys)):
            shapes[f"{at}.self_attn.{name}_proj.weight"] = (rows, width)
            shapes[f"{at}.self_attn.{name}_proj.bias"] = (rows,)
        shapes[f"{at}.self_attn.o_proj.weight"] = (width, queries)
        for name in ("gate", "up"):
            shapes[f"{at}.mlp.{name}_proj.weight"] = (config["mlp"], width)
        shapes[f"{at}.mlp.down_proj.weight"] = (width, config["mlp"])
        shapes[f"{at}.input_layernorm.weight"] = shapes[f"{at}.post_attention_layernorm.weight"] = (width,)
    save_file({k: _values(k, s) for k, s in shapes.items()}, folder / "model.safetensors", {"format": "pt"})
    described = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": config["vocab_size"],
        "hidden_size": width,
        "num_hidden_layers": config["layers"],
        "num_attention_heads": config["heads"],
        "num_key_value_heads": config["kv_heads"],
        "intermediate_size": config["mlp"],
        "rope_theta": config["rope_theta"],
        "rms_norm_eps": config["rms_norm_eps"],
        "tie_word_embeddings": config["tied"],
        "max_position_embeddings": config["max_length"],
        "hidden_act": "silu",
        "torch_dtype": "float32",
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": 1}))
    words = {f"w{i}": i for i in range(16)}
    Tokenizer(models.WordLevel(words, unk_token="w0")).save(str(folder / "tokenizer.json"))
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "w1", "unk_token": "w0"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))


def lengthen(folder: Path, layers: int) -> None:
    """Repeat the second of three layers until the model has `layers` of them."""
    path = folder / _MODEL
    model = onnx.load(path, load_external_data=False)
    load_external_data_for_model(model, str(folder))
    graph = model.graph
    for field in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        old = [copy.deepcopy(item) for item in field]
        del field[:]
        for own, items in groupby(old, _own_layer):
            field.extend(_repeated(own, list(items), layers))
    for file in folder.glob(f"{_MODEL}*"):
        file.unlink()
    onnx.save(model, path, save_as_external_data=True, location=f"{_MODEL}.data", size_threshold=1024)
    settings = folder / "genai_config.json"
    config = json.loads(settings.read_text())
    config["model"]["decoder"]["num_hidden_layers"] = layers
    settings.write_text(json.dumps(config, indent=1))


def _own_layer(item: Any) -> int | None:
    found = _LAYER.search(item.name)
    return int(found[2]) if found else None


def _repeated(own: int | None, items: list[Any], layers: int) -> list[Any]:
    """Neighbours of one layer: the middle one's for each layer it stands for, others once, renumbered."""
    more = layers - _BUILT
    match own:
        case 0:
            return items
        case 1:
            return [_shifted(item, k) for k in range(more + 1) for item in items]
        case None:  # before the first layer or after the last
            return [_shifted(item, more) if isinstance(item, onnx.NodeProto) else item for item in items]
        case _:
            return [_shifted(item, more) for item in items]


def _shifted(item: Any, by: int) -> Any:
    """A copy with every layer number in its names moved."""
    new = type(item)()
    new.CopyFrom(item)
    new.name = _move(item.name, by)
    if isinstance(item, onnx.NodeProto):
        for names in (new.input, new.output):
            moved = [_move(name, by) for name in names]
            del names[:]
            names.extend(moved)
    return new


def _move(name: str, by: int) -> str:
    return _LAYER.sub(lambda m: f"{m[1]}{int(m[2]) + by}", name)


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    random = np.random.default_rng([_SEED, zlib.crc32(name.encode())])
    values = random.standard_normal(shape, dtype=np.float32)
    if len(shape) > 1:
        return values * np.float32(1.5 / np.sqrt(shape[1]))
    return values * np.float32(0.1) + np.float32(name.endswith("norm.weight"))


if __name__ == "__main__":
    make(json.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
