"""Trained weights in the files PAM and SAM 2.1 come in: a Hugging Face folder, a `.pt`, a configuration.

    python -m tools.nano.ship --sam run1/sam.pt --language run1/language.pt --tokenizer FILE --out FOLDER

float16, averaged weights. `open_checkpoint` then reads nano as it reads PAM.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from pam_edge.bundle.config import NANO, LanguageConfig, VisionConfig
from pam_edge.export.checkpoint.tokenizer_files import END_OF_TEXT, IM_END
from tools.nano.words import tokenizer_config

MOST = 12_000_000  # bytes, all files together


def shape_fields(language: LanguageConfig) -> dict[str, Any]:
    """What a `LlavaQwenForCausalLM` config.json says of a language model's shape."""
    return {
        "tokenizer_model_max_length": language.max_length,
        "max_position_embeddings": language.max_length,
        "vocab_size": language.vocab_size,
        "hidden_size": language.hidden_size,
        "intermediate_size": language.mlp,
        "num_hidden_layers": language.layers,
        "num_attention_heads": language.heads,
        "num_key_value_heads": language.kv_heads,
        "head_dim": language.head_dim,
        "rope_theta": language.rope_theta,
        "rms_norm_eps": language.rms_norm_eps,
        "tie_word_embeddings": language.tied,
        "hidden_act": "silu",
    }


def language_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """`config.json` of the folder."""
    return {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava_qwen",
        "mm_vision_tower": "sam2.1_nano",
        "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": NANO.vision.d_model,
        **shape_fields(NANO.language),
        "torch_dtype": "float16",
        "bos_token_id": tokenizer.token_to_id(END_OF_TEXT),
        "eos_token_id": tokenizer.token_to_id(IM_END),
    }


def sam2_config(vision: VisionConfig) -> dict[str, Any]:
    """SAM 2's configuration with nano's numbers; `decoder_mlp` and `iou_head_hidden` SAM 2 has fixed."""
    widths = [vision.embed_dim * 2**i for i in reversed(range(4))]
    attention: dict[str, Any] = {
        "_target_": "sam2.modeling.sam.transformer.RoPEAttention",
        "rope_theta": 10000.0,
        "feat_sizes": [vision.embed_size, vision.embed_size],
        "embedding_dim": vision.d_model,
        "num_heads": 1,
        "downsample_rate": 1,
        "dropout": 0.1,
    }
    layer = {
        "_target_": "sam2.modeling.memory_attention.MemoryAttentionLayer",
        "activation": "relu",
        "dim_feedforward": vision.memory_mlp,
        "dropout": 0.1,
        "pos_enc_at_attn": False,
        "self_attention": attention,
        "d_model": vision.d_model,
        "pos_enc_at_cross_attn_keys": True,
        "pos_enc_at_cross_attn_queries": False,
        "cross_attention": attention | {"rope_k_repeat": True, "kv_in_dim": vision.mem_dim},
    }
    sine = "sam2.modeling.position_encoding.PositionEmbeddingSine"
    position = {"_target_": sine, "normalize": True, "scale": None, "temperature": 10000}
    block = {
        "_target_": "sam2.modeling.memory_encoder.CXBlock",
        "dim": vision.d_model,
        "kernel_size": 7,
        "padding": 3,
    }
    return {
        "_target_": "sam2.sam2_video_predictor.SAM2VideoPredictor",
        "image_encoder": {
            "_target_": "sam2.modeling.backbones.image_encoder.ImageEncoder",
            "scalp": 1,
            "trunk": {
                "_target_": "sam2.modeling.backbones.hieradet.Hiera",
                "embed_dim": vision.embed_dim,
                "num_heads": vision.num_heads,
                "stages": list(vision.stages),
                "global_att_blocks": list(vision.global_att_blocks),
                "window_pos_embed_bkg_spatial_size": list(vision.window_pos_embed_bkg_spatial_size),
                "window_spec": list(vision.window_spec),
            },
            "neck": {
                "_target_": "sam2.modeling.backbones.image_encoder.FpnNeck",
                "position_encoding": position | {"num_pos_feats": vision.d_model},
                "d_model": vision.d_model,
                "backbone_channel_list": widths,
                "fpn_top_down_levels": [2, 3],
                "fpn_interp_model": "nearest",
            },
        },
        "memory_attention": {
            "_target_": "sam2.modeling.memory_attention.MemoryAttention",
            "d_model": vision.d_model,
            "pos_enc_at_input": True,
            "layer": layer,
            "num_layers": vision.memory_layers,
        },
        "memory_encoder": {
            "_target_": "sam2.modeling.memory_encoder.MemoryEncoder",
            "out_dim": vision.mem_dim,
            "position_encoding": position | {"num_pos_feats": vision.mem_dim},
            "mask_downsampler": {
                "_target_": "sam2.modeling.memory_encoder.MaskDownSampler",
                "kernel_size": 3,
                "stride": 2,
                "padding": 1,
            },
            "fuser": {
                "_target_": "sam2.modeling.memory_encoder.Fuser",
                "layer": block | {"layer_scale_init_value": 1e-06, "use_dwconv": True},
                "num_layers": vision.memory_fuser_layers,
            },
        },
        "num_maskmem": vision.num_maskmem,
        "image_size": vision.image_size,
        "decoder_mlp": vision.decoder_mlp,
        "iou_head_hidden": vision.iou_head_hidden,
        "sigmoid_scale_for_mem_enc": vision.sigmoid_scale_for_mem_enc,
        "sigmoid_bias_for_mem_enc": vision.sigmoid_bias_for_mem_enc,
        "use_mask_input_as_output_without_sam": True,
        "directly_add_no_mem_embed": True,
        "no_obj_embed_spatial": True,
        "use_high_res_features_in_sam": True,
        "multimask_output_in_sam": False,
        "iou_prediction_use_sigmoid": True,
        "use_obj_ptrs_in_encoder": True,
        "add_tpos_enc_to_obj_ptrs": True,
        "proj_tpos_enc_in_obj_ptrs": True,
        "use_signed_tpos_enc_to_obj_ptrs": True,
        "only_obj_ptrs_in_the_past_for_eval": True,
        "pred_obj_scores": True,
        "pred_obj_scores_mlp": True,
        "fixed_no_obj_ptr": True,
        "multimask_output_for_tracking": True,
        "use_multimask_token_for_obj_ptr": True,
        "multimask_min_pt_num": 0,
        "multimask_max_pt_num": 1,
        "use_mlp_for_obj_ptr_proj": True,
        "sam_mask_decoder_extra_args": {
            "dynamic_multimask_via_stability": False,
            "dynamic_multimask_stability_delta": vision.stability_delta,
            "dynamic_multimask_stability_thresh": vision.stability_thresh,
        },
        "binarize_mask_from_pts_for_mem_enc": True,
        "fill_hole_area": 0,
    }


def original_key(key: str) -> str:
    """Ours (`perceiver.proj.weight`, `language.norm.weight`) -> the original's."""
    part, rest = key.split(".", 1)
    if part == "perceiver" and not rest.startswith(
        ("mm_projector_", "image_newline", "semT_newline", "frame_newline")
    ):
        return f"model.vision_resampler.{rest}"
    return f"model.{rest}"


def halved(tensor: Tensor) -> Tensor:
    """float16; what would overflow stops the shipping."""
    half = tensor.half().contiguous()
    if not torch.isfinite(half).all():
        raise SystemExit("a weight does not fit float16")
    return half


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sam", type=Path, required=True)
    parser.add_argument("--language", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(given.tokenizer))
    vision = torch.load(given.sam, weights_only=True, map_location="cpu")["average"]["values"]
    rest = torch.load(given.language, weights_only=True, map_location="cpu")["average"]["values"]
    torch.save({"model": {key: halved(value) for key, value in vision.items()}}, given.out / "sam2.1_nano.pt")
    folder = {original_key(key): halved(value) for key, value in rest.items()}
    save_file(folder, given.out / "model.safetensors", metadata={"format": "pt"})
    stops = [tokenizer.token_to_id(IM_END), tokenizer.token_to_id(END_OF_TEXT)]
    documents: dict[str, Any] = {
        "config.json": language_config(tokenizer),
        "generation_config.json": {"eos_token_id": stops, "do_sample": False},
        "sam2.1_nano.json": sam2_config(NANO.vision),
    }
    for name, document in documents.items():
        (given.out / name).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (given.out / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
    (given.out / "tokenizer_config.json").write_text(tokenizer_config(), encoding="utf-8")
    total = sum(path.stat().st_size for path in given.out.iterdir())
    sys.stdout.write(f"{given.out}: {total} bytes\n")
    if total > MOST:
        raise SystemExit(f"more than {MOST} bytes")


if __name__ == "__main__":
    main()
