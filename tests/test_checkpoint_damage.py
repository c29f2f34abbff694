"""Every way a checkpoint can be wrong: damaged, hostile, incomplete, of another model."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from golden.edit import (
    INDEX,
    SHARD,
    edit_json,
    edit_shard,
    merge_shards,
    one_of_first_shard,
    opened,
    split_tokenizer,
)

from pam_edge.bundle.config import NANO
from pam_edge.core.errors import IntegrityError, PamEdgeError, UsageError
from pam_edge.export.checkpoint.checkpoint import Checkpoint, load_module, open_checkpoint
from pam_edge.export.model.language import Language

if TYPE_CHECKING:
    from golden.seeded import GoldenFolder


def test_neither_folder_nor_file_has_sam2(folder: GoldenFolder) -> None:
    with pytest.raises(UsageError, match=r"holds no SAM 2 weights.*--sam2"):
        open_checkpoint(str(folder.weights), sam2_config=folder.sam2_config)


@pytest.mark.parametrize(
    ("weights", "sam2", "config", "message"),
    [
        ("nowhere", None, None, "no PAM folder at nowhere"),
        ("random:pam-9b", None, None, "unknown variant 'pam-9b'; known: nano, pam-1.5b, pam-3b"),
        ("random:nano", "a.pt", None, "leave out --sam2"),
        (None, "nowhere.pt", None, "no SAM 2 checkpoint at nowhere.pt"),
        (None, None, "nowhere.json", "no file at nowhere.json"),
    ],
)
def test_calls_that_make_no_sense(
    folder: GoldenFolder, weights: str | None, sam2: str | None, config: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        open_checkpoint(
            weights or str(folder.weights),
            sam2=Path(sam2) if sam2 else (None if weights else folder.sam2),
            sam2_config=Path(config) if config else (None if weights else folder.sam2_config),
        )


def test_default_configuration_is_hiera_large(folder: GoldenFolder) -> None:
    """Without --sam2-config the tiny tower does not fit, and the message says what to look at."""
    with pytest.raises(IntegrityError, match=r"missing \(\d+\): vision\.image_encoder.*--sam2-config"):
        open_checkpoint(str(folder.weights), sam2=folder.sam2)


def test_missing_extra_and_misshaped_keys_in_one_message(folder: GoldenFolder) -> None:
    state = torch.load(folder.sam2, weights_only=True)["model"]
    del state["no_mem_embed"]
    state["no_obj_ptr"] = torch.zeros(1, 255)
    state |= {f"surplus.{n:02}": torch.zeros(1) for n in range(12)}
    torch.save({"model": state}, folder.sam2)
    with pytest.raises(IntegrityError) as raised:
        opened(folder)
    text = str(raised.value)
    assert "missing (1): vision.no_mem_embed;" in text
    assert "misshaped (1): vision.no_obj_ptr [1, 255] instead of [1, 256];" in text
    assert "extra (12): vision.surplus.00" in text
    assert "vision.surplus.09, …" in text
    assert "vision.surplus.10" not in text


def test_keys_of_another_model(folder: GoldenFolder) -> None:
    merge_shards(folder, {"transformer.h.0.weight": torch.zeros(1)})
    with pytest.raises(IntegrityError, match=r"no part of PAM \(1\): transformer\.h\.0\.weight"):
        opened(folder)


def test_a_module_that_the_checkpoint_does_not_fill(golden_checkpoint: Checkpoint) -> None:
    with torch.device("meta"):
        module = Language(NANO.language)
    with pytest.raises(IntegrityError, match=r"missing \(.*language\.layers\.3.*misshaped"):
        load_module(module, golden_checkpoint, "language.")


def test_index_and_shards_disagree(folder: GoldenFolder) -> None:
    gone = one_of_first_shard(folder, "mlp")
    edit_shard(folder, **{gone: None, "model.layers.9.extra": torch.zeros(1)})
    with pytest.raises(IntegrityError) as raised:
        opened(folder)
    assert f"not in the shard named (1): {gone} ({SHARD})" in str(raised.value)
    assert f"not in the index (1): model.layers.9.extra ({SHARD})" in str(raised.value)


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "a\\b"]
)
def test_index_that_leaves_the_folder(folder: GoldenFolder, name: str) -> None:
    shutil.copy(folder.weights / SHARD, folder.weights.parent / "outside.safetensors")
    table = json.loads((folder.weights / INDEX).read_text())["weight_map"]
    edit_json(folder.weights / INDEX, weight_map=table | {"model.norm.weight": name})
    with pytest.raises(IntegrityError, match="not a plain file of its folder"):
        opened(folder)


def test_missing_shard(folder: GoldenFolder) -> None:
    (folder.weights / SHARD).unlink()
    with pytest.raises(IntegrityError, match=f"names the shard '{SHARD}', which is missing"):
        opened(folder)


def test_link_to_nowhere(folder: GoldenFolder) -> None:
    (folder.weights / SHARD).unlink()
    (folder.weights / SHARD).symlink_to(folder.weights / "gone")
    with pytest.raises(IntegrityError, match="which is missing"):
        opened(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:-1],
        lambda raw: raw[:5],
        lambda raw: b"",
        lambda raw: struct.pack("<Q", 1 << 62) + raw[8:],
        lambda raw: raw[:8] + b"[" * 64 + raw[72:],
        lambda raw: raw.replace(b'"dtype":"F16"', b'"dtype":"F99"', 1),
        lambda raw: raw.replace(b'"dtype":"F16"', b'"dtype":"I16"', 1),
        lambda raw: raw.replace(b'"data_offsets":[0,', b'"data_offsets":[2,', 1),
        lambda raw: pickle.dumps({"a": 1}),
    ],
    ids=[
        "half",
        "one byte",
        "header cut",
        "empty",
        "absurd header",
        "no json",
        "dtype",
        "integers",
        "offsets",
        "pickle",
    ],
)
def test_damaged_shard(folder: GoldenFolder, spoil: Any) -> None:
    path = folder.weights / SHARD
    raw = path.read_bytes()
    assert spoil(raw) != raw
    path.write_bytes(spoil(raw))
    with pytest.raises(IntegrityError, match=SHARD):
        opened(folder)


NOT_JSON = (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, text) for name in ("config.json", INDEX, "generation_config.json") for text in NOT_JSON),
        *(("tokenizer.json", text) for text in NOT_JSON),
        (INDEX, b'{"weight_map": 3}'),
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("generation_config.json", b'{"eos_token_id": "x"}'),
        ("generation_config.json", b'{"eos_token_id": [372]}'),
    ],
)
def test_damaged_json(folder: GoldenFolder, name: str, text: bytes) -> None:
    (folder.weights / name).write_bytes(text)
    with pytest.raises(IntegrityError, match=r"json|weight_map"):
        opened(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_missing_json(folder: GoldenFolder, name: str) -> None:
    (folder.weights / name).unlink()
    with pytest.raises(IntegrityError, match=name):
        opened(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", INDEX])
def test_json_of_absurd_size_is_not_read(folder: GoldenFolder, name: str) -> None:
    os.truncate(folder.weights / name, 1 << 40)
    with pytest.raises(IntegrityError, match="over 64 MiB"):
        opened(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", 10**15),
        ("num_hidden_layers", 10**9),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 3),
        ("vocab_size", -1),
        ("intermediate_size", "many"),
        ("hidden_size", None),
        ("rope_theta", float("nan")),
        ("head_dim", 15),
        ("hidden_size", 128),
        ("num_hidden_layers", 2),
    ],
)
def test_impossible_numbers(folder: GoldenFolder, field: str, value: Any) -> None:
    edit_json(folder.weights / "config.json", **{field: value})
    with pytest.raises(IntegrityError):
        opened(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("image_size",), 10**9),
        (("image_encoder", "trunk", "stages"), [10**7, 1, 1, 1]),
        (("image_encoder", "trunk", "embed_dim"), 10**12),
        (("memory_attention", "num_layers"), 10**9),
        (("image_encoder", "trunk"), 7),
        (("image_encoder", "trunk", "stages"), [1, 2, 3]),
        (("image_encoder", "trunk", "window_spec"), [8, 4]),
        (("image_encoder", "trunk", "window_spec"), [0, 4, 16, 8]),
        (("image_encoder", "trunk", "num_heads"), 3),
        (("image_encoder", "neck", "d_model"), 250),
        (("memory_encoder", "out_dim"), 60),
        (("image_size",), 1040),
        (("sam_mask_decoder_extra_args",), "none"),
    ],
)
def test_impossible_sam2_configuration(
    folder: GoldenFolder, tmp_path: Path, path: tuple[str, ...], value: Any
) -> None:
    config = json.loads(folder.sam2_config.read_text())
    place = config
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    changed = tmp_path / "sam2.json"
    changed.write_text(json.dumps(config))
    with pytest.raises(IntegrityError, match="SAM 2 configuration has"):
        open_checkpoint(str(folder.weights), sam2=folder.sam2, sam2_config=changed)


def test_tokenizer_longer_than_the_embedding(folder: GoldenFolder) -> None:
    merge_shards(folder, {"model.embed_tokens.weight": torch.zeros(371, 64)})
    with pytest.raises(IntegrityError, match=r"the tokenizer has 372 ids but .* only 371 rows"):
        opened(folder)


def test_tokenizer_of_another_model(folder: GoldenFolder) -> None:
    path = folder.weights / "tokenizer.json"
    path.write_text(path.read_text().replace("<|im_end|>", "<|other|>"))
    with pytest.raises(IntegrityError, match=r"has no <\|im_end\|>"):
        opened(folder)


class Payload:
    """Pickled, it is a call."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("legacy", [False, True])
def test_pickle_with_code_is_refused_and_not_run(folder: GoldenFolder, tmp_path: Path, legacy: bool) -> None:
    marker = tmp_path / "ran"
    torch.save({"model": {"a": Payload(marker)}}, folder.sam2, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(IntegrityError, match=r"sam2_tiny\.pt is damaged or"):
        opened(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"not a checkpoint", pickle.dumps({"model": {}})],
    ids=["empty", "zip cut", "text", "plain pickle"],
)
def test_sam2_file_that_is_none(folder: GoldenFolder, content: bytes) -> None:
    folder.sam2.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"sam2_tiny\.pt"):
        opened(folder)


@pytest.mark.parametrize(
    "program", [b"\x80\x02.", b"\x80\x02h\x05.", b"\x80\x02}Q."], ids=["stack", "memo", "id"]
)
def test_sam2_file_whose_pickle_is_damaged(folder: GoldenFolder, tmp_path: Path, program: bytes) -> None:
    """Whatever torch raises on it: nothing on the stack is an IndexError."""
    with zipfile.ZipFile(folder.sam2) as whole, zipfile.ZipFile(tmp_path / "spoilt.pt", "w") as spoilt:
        for name in whole.namelist():
            spoilt.writestr(name, program if name.endswith("data.pkl") else whole.read(name))
    (tmp_path / "spoilt.pt").replace(folder.sam2)
    with pytest.raises(IntegrityError, match=r"sam2_tiny\.pt is damaged"):
        opened(folder)


def test_truncated_sam2_file(folder: GoldenFolder) -> None:
    os.truncate(folder.sam2, folder.sam2.stat().st_size // 2)
    with pytest.raises(IntegrityError, match=r"sam2_tiny\.pt is damaged"):
        opened(folder)


@pytest.mark.parametrize(
    "content",
    [
        {"state": {}},
        [1, 2],
        {"model": [torch.zeros(1)]},
        {"model": {"a": 3}},
        {"model": {3: torch.zeros(1)}},
        {"model": {"a": torch.zeros(1, dtype=torch.int64)}},
        {"model": {"a": torch.zeros(2, 2).to_sparse()}},
        {"model": {"no_mem_embed": torch.zeros(1, 1, 256, device="meta")}},
    ],
)
def test_sam2_file_with_something_else_in_it(folder: GoldenFolder, content: Any) -> None:
    torch.save(content, folder.sam2)
    with pytest.raises(IntegrityError, match=r"sam2_tiny\.pt"):
        opened(folder)


def test_no_flipped_byte_escapes_the_error_tree(folder: GoldenFolder) -> None:
    """Bytes of headers and tables flipped at random: an error of ours, or a checkpoint."""
    rng = np.random.default_rng(0)
    for path in (folder.weights / INDEX, folder.weights / SHARD, folder.weights / "config.json"):
        raw = path.read_bytes()
        for _ in range(12):
            spoilt = bytearray(raw)
            for at in rng.integers(0, min(len(raw), 4000), size=3):
                spoilt[at] ^= int(rng.integers(1, 256))
            path.write_bytes(spoilt)
            try:
                opened(folder)
            except PamEdgeError as e:
                assert str(e)
        path.write_bytes(raw)
    opened(folder)


def test_control_tokens_out_of_place(folder: GoldenFolder) -> None:
    _, added = split_tokenizer(folder.weights)
    (folder.weights / "added_tokens.json").write_text(json.dumps({text: n + 7 for text, n in added.items()}))
    with pytest.raises(IntegrityError, match="should have id"):
        opened(folder)
