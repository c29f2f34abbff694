"""Random weights: seeded, on demand, with a tokenizer of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from pam_edge.bundle.config import NANO, PAM_3B
from pam_edge.export.checkpoint.checkpoint import load_language, load_perceiver, load_vision, open_checkpoint
from pam_edge.export.checkpoint.random_weights import BLOCK, random_rows, random_tensor
from pam_edge.text.tokenization import PAM_PROMPTS, Texts

if TYPE_CHECKING:
    pass


def test_random_weights_are_a_function_of_seed_and_key() -> None:
    first, again, other = (open_checkpoint("random:nano", seed=seed) for seed in (1, 1, 2))
    assert first.weights.kind == "random"
    assert first.weights.source == "random:nano"
    assert first.variant == NANO
    key = "language.layers.0.mlp.up_proj.weight"
    assert torch.equal(first.tensor(key), again.tensor(key))
    assert not torch.equal(first.tensor(key), other.tensor(key))
    assert not torch.equal(first.tensor(key), first.tensor(key.replace("up_proj", "gate_proj")))
    assert 1.4 < float(first.tensor(key).std()) * np.sqrt(NANO.language.hidden_size) < 1.6


@pytest.mark.parametrize("shape", [(700, 1000), (5,), (3, 7, 2), (BLOCK // 4, 4), (BLOCK + 1,)])
def test_rows_are_the_whole_tensor_s_whatever_the_pieces(shape: tuple[int, ...]) -> None:
    key = "language.layers.0.mlp.up_proj.weight"
    whole = random_tensor(key, shape, 5)
    for step in {1 + shape[0] // 3, shape[0]}:
        parts = [random_rows(key, shape, 5, at, min(at + step, shape[0])) for at in range(0, shape[0], step)]
        assert torch.equal(torch.cat(parts), whole)
    assert len(whole.unique()) > 0.9 * min(whole.numel(), 1000), "no block repeats another"


def test_random_nano_runs() -> None:
    torch.manual_seed(0)
    checkpoint = open_checkpoint("random:nano")
    vision, perceiver, language = (f(checkpoint) for f in (load_vision, load_perceiver, load_language))
    with torch.inference_mode():
        seen = vision.encode_image(torch.randn(1, 3, 256, 256))
        found = vision.decode_masks(
            vision.without_memory(seen.image_embed),
            (seen.high_res_0, seen.high_res_1),
            torch.tensor([[[100.0, 120.0]]]),
            torch.ones(1, 1),
        )
        logits, _ = language(perceiver(found.region_embed, found.mask_tokens))
    assert float(found.object_score) > 0
    assert found.masks.shape == (1, 1, 64, 64)
    assert logits.shape == (1, 2048)
    assert bool(torch.isfinite(logits).all())


def test_random_large_variants_open_at_once() -> None:
    checkpoint = open_checkpoint("random:pam-3b")
    assert checkpoint.variant == PAM_3B
    assert checkpoint.shape("language.embed_tokens.weight") == (151_665, 2048)
    assert checkpoint.tensor("language.layers.35.self_attn.k_proj.weight").shape == (256, 2048)
    total = sum(int(np.prod(checkpoint.shape(key))) for key in checkpoint.keys())  # noqa: SIM118
    assert 3.3e9 < total < 3.4e9


def test_standin_tokenizer_writes_any_text_and_is_short_in_the_prompts() -> None:
    checkpoint = open_checkpoint("random:pam-1.5b")
    texts = Texts(checkpoint.tokenizer_json, PAM_PROMPTS)
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json.decode())
    for text in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"):
        assert len(tokenizer.encode(text).ids) == 1
    assert checkpoint.stop_ids == (
        tokenizer.token_to_id("<|im_end|>"),
        tokenizer.token_to_id("<|endoftext|>"),
    )
    assert tokenizer.decode(tokenizer.encode("Zebra, naïve 斑马 🦓!").ids) == "Zebra, naïve 斑马 🦓!"
    # Qwen2.5 takes 14 and 14 tokens for these.
    assert len(texts.ids_before) == 14
    assert len(texts.ids_after("recognize")) <= 16
    assert isinstance(texts.decode([151_000, 5, 150_000]), str)


def test_standin_tokenizer_is_the_same_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pam_edge.export.checkpoint.checkpoint import open_checkpoint;"
        "sys.stdout.buffer.write(open_checkpoint('random:nano').tokenizer_json)"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads},
        ).stdout
        for seed, threads in (("1", "1"), ("2", "2"))
    }
    assert len(runs) == 1
    assert runs.pop() == open_checkpoint("random:nano").tokenizer_json
