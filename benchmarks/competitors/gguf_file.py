"""A language model's shapes as a llama.cpp file with seeded random weights, types as its own `Q4_0`.

    python gguf_file.py CONFIG.json OUT.gguf

Runs in the environment of the `gguf` package, which lays out and names everything. Matrices of the layers are
Q4_0. The embedding, which with tied weights is the head too, is Q6_K, as `llama-quantize ... Q4_0` makes it,
and Q8_0 where a row is no multiple of 256. Random blocks are written as such: quantizing random floats gives
no other kernels. There is no vocabulary in the file: prompts are token ids.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

Bytes = npt.NDArray[np.uint8]
_SEED = 7
_FILE_TYPE = {"Q4_0": 2}  # llama_ftype


def tensors(config: dict[str, Any]) -> list[tuple[str, tuple[int, ...], Type]]:
    """Name, shape (rows, columns) and type of every tensor; `config` is a LanguageConfig's fields."""
    width, heads, kv, d = (config[k] for k in ("hidden_size", "heads", "kv_heads", "head_dim"))
    table = Type.Q6_K if width % 256 == 0 else Type.Q8_0
    found: list[tuple[str, tuple[int, ...], Type]] = [
        ("token_embd.weight", (config["vocab_size"], width), table),
        ("output_norm.weight", (width,), Type.F32),
    ]
    if not config["tied"]:
        found.append(("output.weight", (config["vocab_size"], width), table))
    for i in range(config["layers"]):
        at = f"blk.{i}"
        for name, rows in (("attn_q", heads * d), ("attn_k", kv * d), ("attn_v", kv * d)):
            found += [
                (f"{at}.{name}.weight", (rows, width), Type.Q4_0),
                (f"{at}.{name}.bias", (rows,), Type.F32),
            ]
        found += [
            (f"{at}.attn_norm.weight", (width,), Type.F32),
            (f"{at}.ffn_norm.weight", (width,), Type.F32),
            (f"{at}.attn_output.weight", (width, heads * d), Type.Q4_0),
            (f"{at}.ffn_gate.weight", (config["mlp"], width), Type.Q4_0),
            (f"{at}.ffn_up.weight", (config["mlp"], width), Type.Q4_0),
            (f"{at}.ffn_down.weight", (width, config["mlp"]), Type.Q4_0),
        ]
    return found


def write(config: dict[str, Any], path: Path) -> int:
    """Write the file, tensor by tensor; the bytes of weights in it."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config["max_length"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["layers"])
    writer.add_feed_forward_length(config["mlp"])
    writer.add_head_count(config["heads"])
    writer.add_head_count_kv(config["kv_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(_FILE_TYPE["Q4_0"])
    wanted, total = tensors(config), 0
    for name, shape, kind in wanted:
        stored = gguf.quant_shape_to_byte_shape(shape, kind) if kind != Type.F32 else shape
        dtype = np.dtype(np.float32 if kind == Type.F32 else np.uint8)
        size = int(np.prod(stored)) * dtype.itemsize
        writer.add_tensor_info(name, stored, dtype, size, raw_dtype=None if kind == Type.F32 else kind)
        total += size
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, shape, kind in wanted:
        writer.write_tensor_data(_values(name, shape, kind))
    writer.close()
    return total


def _values(name: str, shape: tuple[int, ...], kind: Type) -> npt.NDArray[Any]:
    random = np.random.default_rng([_SEED, zlib.crc32(name.encode())])
    if kind == Type.F32:
        values = random.standard_normal(shape, dtype=np.float32) * np.float32(0.1)
        return values + np.float32(name.endswith("norm.weight"))
    block, size = gguf.GGML_QUANT_SIZES[kind]
    count = int(np.prod(shape)) // block
    blocks: Bytes = random.integers(0, 256, (count, size), dtype=np.uint8)
    scale = 1.5 / np.sqrt(shape[1])  # of one weight
    match kind:
        case Type.Q4_0:  # half-precision scale, 16 bytes of two numbers from -8 to 7
            blocks[:, :2] = _half(scale / 4.6)
        case Type.Q8_0:  # half-precision scale, 32 numbers from -128 to 127
            blocks[:, :2] = _half(scale / 74)
        case Type.Q6_K:  # low and high bits of 256 numbers from -32 to 31, 16 scales of 8 bits, a common one
            blocks[:, 192:208] = 64
            blocks[:, 208:] = _half(scale / (64 * 18.5))
        case other:
            raise ValueError(f"{name}: no layout known for {other}")
    return blocks.reshape(*shape[:-1], -1)


def _half(value: float) -> Bytes:
    return np.frombuffer(np.float16(value).tobytes(), np.uint8)


if __name__ == "__main__":
    write(json.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))
