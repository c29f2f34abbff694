"""Reading checkpoints: every layout a user may have."""

from __future__ import annotations

import json
import resource
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch
from golden.edit import (
    edit_json,
    merge_shards,
    opened,
    split_tokenizer,
)
from golden.seeded import seeded_array, shapes, write_golden_folder
from tokenizers import Tokenizer

from pam_edge.bundle.config import VARIANTS
from pam_edge.core.errors import IntegrityError
from pam_edge.export.checkpoint.checkpoint import (
    UNKNOWN_LICENCE,
    Checkpoint,
    _recognized,
    expected_shapes,
    load_language,
    open_checkpoint,
)
from pam_edge.export.checkpoint.weight_files import safetensors_file
from pam_edge.text.tokenization import PAM_PROMPTS

if TYPE_CHECKING:
    from golden.seeded import GoldenFolder


def test_keys_shapes_and_numbers(golden_checkpoint: Checkpoint) -> None:
    assert {k: golden_checkpoint.shape(k) for k in golden_checkpoint.keys()} == expected_shapes(  # noqa: SIM118
        golden_checkpoint.variant
    )
    for ours, theirs in {
        "vision.image_encoder.neck.convs.0.conv.weight": "image_encoder.neck.convs.0.conv.weight",
        "vision.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": "buffer.sam_prompt_encoder."
        "pe_layer.positional_encoding_gaussian_matrix",
        "perceiver.sem_tokens.weight": "model.vision_resampler.sem_tokens.weight",
        "perceiver.mm_projector_semT.2.bias": "model.mm_projector_semT.2.bias",
        "perceiver.frame_newline": "model.frame_newline",
        "language.layers.2.mlp.down_proj.weight": "model.layers.2.mlp.down_proj.weight",
        "language.norm.weight": "model.norm.weight",
    }.items():
        tensor = golden_checkpoint.tensor(ours)
        assert tensor.dtype == torch.float32
        assert np.array_equal(tensor.numpy(), seeded_array(theirs, shapes()[theirs]).astype(np.float32)), ours


def test_licences_hold_for_the_published_weights_alone() -> None:
    """A folder is known by its shapes, which anybody's weights may have."""
    for known in VARIANTS:
        variant = _recognized(msgspec.structs.replace(known, name="custom", licences=UNKNOWN_LICENCE))
        assert variant.name == known.name
        assert all(
            "if these are that model's own published weights" in part.note for part in variant.licences
        )


def test_the_packaged_weights_give_way_to_a_folder_of_their_name(
    folder: GoldenFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").mkdir()
    assert open_checkpoint("nano").variant.name == "nano"  # a folder that holds no weights
    (tmp_path / "nano").rmdir()
    folder.weights.rename(tmp_path / "nano")
    local = open_checkpoint("nano", sam2=folder.sam2, sam2_config=folder.sam2_config)
    assert local.variant.name == "custom"


def test_what_the_small_files_say(golden_checkpoint: Checkpoint) -> None:
    assert golden_checkpoint.variant.name == "custom"
    assert golden_checkpoint.weights.source == "PAM-tiny"
    assert golden_checkpoint.stop_ids == (2, 0)
    assert golden_checkpoint.variant.language.max_length == 12288
    assert golden_checkpoint.variant.vision.stages == (1, 2, 3, 1)


def test_single_file_with_sam2_inside(folder: GoldenFolder) -> None:
    """As `model.vision_tower.sam2_model_predictor.*` in the folder: no second path needed."""
    state = torch.load(folder.sam2, weights_only=True)["model"]
    merge_shards(
        folder, {f"model.vision_tower.sam2_model_predictor.{key}": value for key, value in state.items()}
    )
    inside = open_checkpoint(str(folder.weights), sam2_config=folder.sam2_config)
    beside = opened(folder)  # keys inside give way to the file that was asked for
    assert set(inside.keys()) == set(beside.keys())
    key = "vision.obj_ptr_proj.layers.0.weight"
    assert torch.equal(inside.tensor(key), beside.tensor(key))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_other_precisions(golden_checkpoint: Checkpoint, tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint = opened(write_golden_folder(tmp_path, dtype=dtype))
    for key in ("perceiver.proj.weight", "language.embed_tokens.weight"):
        exact = golden_checkpoint.tensor(key)
        assert torch.equal(checkpoint.tensor(key), exact.to(dtype).float())
        assert torch.equal(checkpoint.rows(key, 3, 50), exact[3:50].to(dtype).float())


def test_linked_shards_as_in_a_download_cache(folder: GoldenFolder, tmp_path: Path) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for n, path in enumerate(sorted(folder.weights.iterdir())):
        path.rename(blobs / str(n))
        path.symlink_to(blobs / str(n))
    assert opened(folder).tensor("language.norm.weight").shape == (64,)


def test_padded_vocabulary_rows_are_dropped(folder: GoldenFolder) -> None:
    """A surplus of 0.6 % over the tokenizer's 372 ids, as Qwen2.5's files have 0.2 % over theirs."""
    edit_json(folder.weights / "config.json", vocab_size=374)
    merge_shards(
        folder, {"model.embed_tokens.weight": torch.arange(374.0)[:, None].expand(374, 64).contiguous()}
    )
    checkpoint = opened(folder)
    assert checkpoint.variant.language.vocab_size == 372
    assert checkpoint.shape("language.embed_tokens.weight") == (372, 64)
    assert checkpoint.tensor("language.embed_tokens.weight")[:, 0].tolist() == list(range(372))
    assert load_language(checkpoint)(torch.zeros(1, 2, 64))[0].shape == (1, 372)


def test_rows_the_tokenizer_does_not_spell_are_kept(golden_checkpoint: Checkpoint) -> None:
    """140 of 512 are no padding: the original's answers on this checkpoint use them."""
    assert golden_checkpoint.variant.language.vocab_size == 512


def test_untied_head(folder: GoldenFolder) -> None:
    edit_json(folder.weights / "config.json", tie_word_embeddings=False)
    head = torch.full((512, 64), 0.5)
    merge_shards(folder, {"lm_head.weight": head})
    checkpoint = opened(folder)
    assert torch.equal(checkpoint.tensor("language.lm_head.weight"), head)
    logits = load_language(checkpoint).logits(torch.ones(64))
    assert torch.allclose(logits, torch.full((512,), 32.0))


@pytest.mark.parametrize("same", [True, False])
def test_tied_head_written_out(folder: GoldenFolder, same: bool) -> None:
    shape = (512, 64)
    embedding = torch.from_numpy(seeded_array("model.embed_tokens.weight", shape))
    merge_shards(folder, {"lm_head.weight": embedding if same else torch.zeros(shape, dtype=torch.float16)})
    if same:
        assert "language.lm_head.weight" not in opened(folder).keys()  # noqa: SIM118
    else:
        with pytest.raises(IntegrityError, match=r"ties the head.*lm_head\.weight differs"):
            opened(folder)


@pytest.mark.parametrize("layout", ["tokenizer_config.json", "added_tokens.json"])
def test_tokenizer_from_vocabulary_and_merges(folder: GoldenFolder, layout: str) -> None:
    raw, added = split_tokenizer(folder.weights)
    if layout == "added_tokens.json":
        (folder.weights / layout).write_text(json.dumps(added))
    else:
        table = {str(n): {"content": text, "special": True} for text, n in added.items()}
        edit_json(folder.weights / layout, added_tokens_decoder=table)
    edit_json(
        folder.weights / "generation_config.json", eos_token_id=[added["<|im_end|>"], added["<|endoftext|>"]]
    )
    checkpoint = opened(folder)
    assert checkpoint.stop_ids == (added["<|im_end|>"], added["<|endoftext|>"])
    theirs, ours = Tokenizer.from_str(raw.decode()), Tokenizer.from_str(checkpoint.tokenizer_json.decode())
    for text in (PAM_PROMPTS.before, PAM_PROMPTS.after, *PAM_PROMPTS.tasks["en"].values()):
        assert ours.encode(text).tokens == theirs.encode(text).tokens
        assert ours.decode(ours.encode(text).ids, skip_special_tokens=False) == text


def test_reading_maps_the_file_and_does_not_load_it(tmp_path: Path) -> None:
    """A 3 GiB file, all holes: opening it, reading its small tensor and, in rows, 400 MB of the large one."""
    rows, width = 3 << 14, 1 << 15
    spans = {"big": [0, rows * width * 2], "small": [rows * width * 2, rows * width * 2 + 8]}
    header = {
        "big": {"dtype": "F16", "shape": [rows, width], "data_offsets": spans["big"]},
        "small": {"dtype": "F16", "shape": [4], "data_offsets": spans["small"]},
    }
    raw = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    with path.open("wb") as f:
        f.write(struct.pack("<Q", len(raw)) + raw)
        f.truncate(8 + len(raw) + spans["small"][1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    entries = safetensors_file(path)
    assert entries["big"].shape == (rows, width)
    assert entries["small"].read().tolist() == [0, 0, 0, 0]
    for start in range(0, 6144, 256):
        assert not entries["big"].rows(start, start + 256).any()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB on Linux
