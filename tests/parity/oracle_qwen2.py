"""Our language model against transformers' Qwen2ForCausalLM: embeddings in, logits and tokens out.

Run by `make parity`.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from golden import torch_side
from golden.reference import ASKED
from golden.torch_side import Model
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from pam_edge.bundle.config import NANO, PAM_1_5B, PAM_3B, LanguageConfig
from pam_edge.export.checkpoint.random_weights import random_tensor
from pam_edge.export.model.language import Language

CLOSE = 5e-5


def theirs_of(config: LanguageConfig, state: dict[str, Tensor]) -> Qwen2ForCausalLM:
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.mlp,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=config.max_length,
            rms_norm_eps=config.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tied,
        )
    ).eval()
    own = {key if key.startswith("lm_head") else f"model.{key}": value for key, value in state.items()}
    own.setdefault("lm_head.weight", own["model.embed_tokens.weight"])
    model.load_state_dict(own, strict=True)
    return model


def pair_of(config: LanguageConfig) -> tuple[Language, Qwen2ForCausalLM]:
    ours = Language(config).eval()
    state = {
        key: random_tensor(f"language.{key}", tuple(value.shape), 11)
        for key, value in ours.state_dict().items()
    }
    ours.load_state_dict(state, strict=True)
    return ours, theirs_of(config, state)


CONFIGS = {
    "nano": NANO.language,
    "nano, untied": msgspec.structs.replace(NANO.language, tied=False, rope_theta=1e4, rms_norm_eps=1e-5),
    "pam-1.5b, two layers": msgspec.structs.replace(PAM_1_5B.language, layers=2, vocab_size=3000),
    "pam-3b, two layers": msgspec.structs.replace(PAM_3B.language, layers=2, vocab_size=3000),
}


@torch.inference_mode()
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_of_every_position(name: str) -> None:
    ours, theirs = pair_of(CONFIGS[name])
    embeds = torch.from_numpy(
        np.random.default_rng(0).standard_normal((2, 70, CONFIGS[name].hidden_size), dtype=np.float32)
    )
    expected = theirs(inputs_embeds=embeds).logits
    hidden, cache = ours.hidden(embeds[:, :50])
    found = ours.logits(torch.cat([hidden, ours.hidden(embeds[:, 50:], cache)[0]], dim=1))
    assert float((found - expected).abs().max()) <= CLOSE * float(expected.abs().max())


@torch.inference_mode()
@pytest.mark.parametrize(("prompt", "task"), ASKED)
def test_greedy_answers_of_the_golden_regions(
    golden_model: Model, golden: dict[str, np.ndarray], prompt: str, task: str
) -> None:
    """transformers' own generate on the golden weights gives the tokens ours gives."""
    theirs = theirs_of(golden_model.language.config, golden_model.language.state_dict())
    tokens = golden[f"{prompt}/region_tokens"].astype(np.float32)
    embed = theirs.get_input_embeddings()
    before, after = (torch.from_numpy(golden[f"{prompt}/{task}/ids_{side}"]) for side in ("before", "after"))
    embeds = torch.cat([embed(before), torch.from_numpy(tokens), embed(after)])[None]
    found = theirs.generate(
        inputs_embeds=embeds,
        attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
        do_sample=False,
        max_new_tokens=12,
        eos_token_id=-1,
        pad_token_id=0,
    )
    _, chosen = torch_side.answer(golden_model, tokens, f"{prompt}/{task}")
    assert found[0].tolist() == chosen
