"""The weights that ship: they fit the wheel, open like PAM's, and answer on scenes training never saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from pam_edge.benchmarks.synthetic import centre_click, nth_seed, scene
from pam_edge.bundle import builtin
from pam_edge.bundle.config import NANO
from pam_edge.export.checkpoint.checkpoint import (
    Checkpoint,
    load_language,
    load_perceiver,
    load_vision,
    open_checkpoint,
)
from pam_edge.image.preprocess import Prompt, encode_prompt, load_image, pixels
from pam_edge.text.tokenization import PAM_PROMPTS, Texts

SCENES = [scene(nth_seed(777, n), "heldout") for n in range(3)]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(builtin.NANO)


def test_the_official_files_take_at_most_12_mb() -> None:
    assert sum(path.stat().st_size for path in builtin.WEIGHTS.iterdir() if path.is_file()) <= 12_000_000


def test_they_open_as_nano(checkpoint: Checkpoint) -> None:
    assert checkpoint.variant.name == "nano"
    assert checkpoint.variant.language.vocab_size == NANO.language.vocab_size
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json.decode())
    assert [tokenizer.token_to_id(t) for t in ("<|im_end|>", "<|endoftext|>")] == list(checkpoint.stop_ids)


@torch.no_grad()
def test_a_click_finds_its_object_and_its_colour(checkpoint: Checkpoint) -> None:
    vision, perceiver, language = (load(checkpoint) for load in (load_vision, load_perceiver, load_language))
    texts = Texts(checkpoint.tokenizer_json, PAM_PROMPTS)
    ious, colours = [], []
    for drawn in SCENES:
        seen = vision.encode_image(torch.from_numpy(pixels(load_image(drawn.image), NANO.vision.image_size)))
        for obj in drawn.objects:
            feeds = encode_prompt(
                Prompt(points=(centre_click(obj.mask),)),
                size=drawn.image.shape[:2],
                image_size=NANO.vision.image_size,
                slots=None,
            )
            found = vision.decode_masks(
                vision.without_memory(seen.image_embed),
                (seen.high_res_0, seen.high_res_1),
                torch.from_numpy(feeds["point_coords"]),
                torch.from_numpy(feeds["point_labels"]),
            )
            shown = F.interpolate(found.masks, size=drawn.image.shape[:2], mode="bilinear")[0, 0].numpy() > 0
            ious.append((shown & obj.mask).sum() / (shown | obj.mask).sum())
            tokens = perceiver(found.region_embed, found.mask_tokens)
            before, after = (
                language.embed_tokens(torch.tensor(ids))[None]
                for ids in (texts.ids_before, texts.ids_after("brief"))
            )
            logits, cache = language(torch.cat([before, tokens, after], dim=1))
            said: list[int] = []
            while len(said) < 24 and (following := int(logits.argmax())) not in checkpoint.stop_ids:
                said.append(following)
                logits, cache = language(language.embed_tokens(torch.tensor([[following]])), cache)
            colours.append(obj.colour in texts.decode(said))
    assert np.mean(ious) > 0.75
    assert np.mean(colours) > 0.8
