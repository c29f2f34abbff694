"""The configuration of each model size, and how to read it from the original's configuration files.

A `Variant` is plain data. Defaults are those of PAM (SAM 2.1 Hiera-L, Semantic Perceiver, Qwen2.5); nano has
the same architecture with smaller widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from pam_edge.core.errors import IntegrityError, UsageError

# Bounds are far above any real model: they keep a hostile file from asking for absurd amounts of memory.
Size = Annotated[int, Meta(ge=1, le=1 << 20)]
Count = Annotated[int, Meta(ge=0, le=1024)]
Positive = Annotated[float, Meta(gt=0, le=1e12)]


class VisionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """SAM 2.1 video predictor. Field names follow its own configuration; defaults are `sam2.1_hiera_l`."""

    image_size: Annotated[int, Meta(ge=32, le=8192, multiple_of=16)] = (
        1024  # S: side of the square model input, pixels
    )
    embed_dim: Size = 144
    num_heads: Size = 2
    stages: Annotated[tuple[Size, ...], Meta(min_length=1, max_length=8)] = (2, 6, 36, 4)
    global_att_blocks: Annotated[tuple[Count, ...], Meta(max_length=64)] = (23, 33, 43)
    window_pos_embed_bkg_spatial_size: tuple[Size, Size] = (7, 7)
    window_spec: Annotated[tuple[Count, ...], Meta(min_length=1, max_length=8)] = (8, 4, 16, 8)
    d_model: Size = 256  # C: width of neck, prompt encoder, mask decoder and memory attention
    mem_dim: Size = 64
    decoder_mlp: Size = 2048  # hard-coded in SAM 2; narrower only in nano
    decoder_heads: Size = 8
    iou_head_hidden: Size = 256
    memory_layers: Count = 4
    memory_mlp: Size = 2048
    memory_fuser_layers: Count = 2
    num_maskmem: Count = 7
    max_obj_ptrs: Count = 16
    sigmoid_scale_for_mem_enc: float = 20.0
    sigmoid_bias_for_mem_enc: float = -10.0
    stability_delta: float = 0.05
    stability_thresh: float = 0.98

    @property
    def embed_size(self) -> int:
        """E: side of the image embedding, S / 16."""
        return self.image_size // 16


class PerceiverConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Semantic Perceiver (`model.vision_resampler`). Its width is the vision tower's `d_model`."""

    depth: Count = 2
    num_heads: Size = 8
    mlp: Size = 2048
    semantic_tokens: Size = 16


class LanguageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Qwen2 decoder. `vocab_size` is the tokenizer's length: padded vocabulary rows are dropped at load."""

    vocab_size: Annotated[int, Meta(ge=1, le=1 << 22)]
    hidden_size: Size
    layers: Count
    heads: Size
    kv_heads: Size
    mlp: Size
    head_dim: Size = 128
    rope_theta: Positive = 1e6
    rms_norm_eps: Positive = 1e-6
    tied: bool = True
    max_length: Size = 12288  # positions the cache may ever hold (`tokenizer_model_max_length`)


class Licence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Licence of one part of a bundle."""

    part: str
    licence: str
    commercial: bool
    note: str = ""


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model size: everything that fixes the shape of every graph."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_.\-]{0,63}\Z")]  # folders are named after it
    language: LanguageConfig
    vision: VisionConfig = VisionConfig()
    perceiver: PerceiverConfig = PerceiverConfig()
    licences: tuple[Licence, ...] = ()

    @property
    def region_tokens(self) -> int:
        """Visual tokens of one image region: (E/2)^2 image + newline + semantic + newline (1042 for PAM)."""
        return (self.vision.embed_size // 2) ** 2 + self.perceiver.semantic_tokens + 2

    @property
    def frame_tokens(self) -> int:
        """Visual tokens of one further video frame at scale 1/4, frame newline included (275 for PAM)."""
        return (self.vision.embed_size // 4) ** 2 + self.perceiver.semantic_tokens + 3


QWEN25_VOCAB = 151_665  # tokenizer length of Qwen2.5; its weight files hold 151,936 rows

# A folder is recognized by its shapes, which do not tell whose numbers they are.
_OWN = "if these are that model's own published weights"
_PAM = Licence("PAM (perceiver, projectors, recipe)", "Apache-2.0", True, _OWN)
_SAM = Licence("SAM 2.1 Hiera-L", "Apache-2.0", True, _OWN)
_QWEN_1_5B = Licence("Qwen2.5-1.5B", "Apache-2.0", True, _OWN)
_QWEN_3B = Licence(
    "Qwen2.5-3B", "qwen-research", False, f"research and evaluation only, not for commercial use; {_OWN}"
)
_NANO = Licence("nano", "Apache-2.0", True, _OWN)

NANO = Variant(
    name="nano",
    language=LanguageConfig(
        vocab_size=2048, hidden_size=192, layers=4, heads=6, kv_heads=2, mlp=448, head_dim=32, max_length=1024
    ),
    vision=VisionConfig(
        image_size=256,
        embed_dim=24,
        num_heads=1,
        stages=(1, 2, 3, 1),
        global_att_blocks=(4, 5),
        window_spec=(8, 4, 8, 8),
        d_model=96,
        mem_dim=24,
        decoder_mlp=384,
        iou_head_hidden=96,
        memory_layers=2,
        memory_mlp=192,
    ),
    perceiver=PerceiverConfig(mlp=384),
    licences=(_NANO,),
)
PAM_1_5B = Variant(
    name="pam-1.5b",
    language=LanguageConfig(QWEN25_VOCAB, hidden_size=1536, layers=28, heads=12, kv_heads=2, mlp=8960),
    licences=(_PAM, _SAM, _QWEN_1_5B),
)
PAM_3B = Variant(
    name="pam-3b",
    language=LanguageConfig(QWEN25_VOCAB, hidden_size=2048, layers=36, heads=16, kv_heads=2, mlp=11008),
    licences=(_PAM, _SAM, _QWEN_3B),
)
VARIANTS: tuple[Variant, ...] = (NANO, PAM_1_5B, PAM_3B)


def variant_named(name: str) -> Variant:
    """The variant of that name. Raises UsageError listing the known ones."""
    for variant in VARIANTS:
        if variant.name == name:
            return variant
    known = ", ".join(v.name for v in VARIANTS)
    raise UsageError(f"unknown variant {name!r}; known: {known}")


def language_from_hf(config: Mapping[str, Any], *, vocab_size: int) -> LanguageConfig:
    """Read a `LlavaQwenForCausalLM` config.json.

    `vocab_size` is the tokenizer's length, which wins over the (padded) number in the file.
    Raises IntegrityError naming the missing or impossible field.
    """
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        rope = config.get("rope_parameters") or {}
        language = LanguageConfig(
            vocab_size=min(vocab_size, int(config["vocab_size"])),
            hidden_size=hidden,
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            mlp=int(config["intermediate_size"]),
            head_dim=int(config.get("head_dim") or hidden // heads),
            rope_theta=float(config.get("rope_theta") or rope.get("rope_theta") or 1e6),
            rms_norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            tied=bool(config.get("tie_word_embeddings", False)),
            max_length=int(config.get("tokenizer_model_max_length") or config["max_position_embeddings"]),
        )
    except KeyError as e:
        raise IntegrityError(f"config.json has no field {e.args[0]!r}; is this a PAM folder?") from e
    except (TypeError, ValueError, AttributeError, OverflowError, ZeroDivisionError) as e:
        raise IntegrityError(f"config.json has a field of the wrong type: {e}") from e
    if config.get("rope_scaling"):
        raise IntegrityError("config.json asks for rope_scaling, which PAM does not use; refusing to guess")
    if (
        min(language.kv_heads, language.layers) < 1
        or language.heads % language.kv_heads
        or language.head_dim % 2
    ):
        raise IntegrityError(f"config.json has impossible sizes: {language}")
    return _bounded(language, "config.json")


def vision_from_sam2(config: Mapping[str, Any]) -> VisionConfig:
    """Read a SAM 2 configuration: the `model` section of its YAML, as JSON (pam_edge/nano/sam2.1_nano.json).

    nano's narrower heads ride along as extra top-level keys (`decoder_mlp`, `iou_head_hidden`).
    Raises IntegrityError naming the missing field.
    """
    try:
        trunk, attention = config["image_encoder"]["trunk"], config["memory_attention"]
        defaults = VisionConfig()
        extras = config.get("sam_mask_decoder_extra_args") or {}
        vision = msgspec.structs.replace(
            defaults,
            image_size=int(config["image_size"]),
            embed_dim=int(trunk["embed_dim"]),
            num_heads=int(trunk["num_heads"]),
            stages=tuple(int(n) for n in trunk["stages"]),
            global_att_blocks=tuple(int(n) for n in trunk["global_att_blocks"]),
            window_pos_embed_bkg_spatial_size=_pair(trunk["window_pos_embed_bkg_spatial_size"]),
            window_spec=tuple(int(n) for n in trunk["window_spec"]),
            d_model=int(config["image_encoder"]["neck"]["d_model"]),
            mem_dim=int(config["memory_encoder"]["out_dim"]),
            memory_layers=int(attention["num_layers"]),
            memory_mlp=int(attention["layer"]["dim_feedforward"]),
            memory_fuser_layers=int(config["memory_encoder"]["fuser"]["num_layers"]),
            num_maskmem=int(config["num_maskmem"]),
            sigmoid_scale_for_mem_enc=float(config["sigmoid_scale_for_mem_enc"]),
            sigmoid_bias_for_mem_enc=float(config["sigmoid_bias_for_mem_enc"]),
            stability_delta=float(extras.get("dynamic_multimask_stability_delta", defaults.stability_delta)),
            stability_thresh=float(
                extras.get("dynamic_multimask_stability_thresh", defaults.stability_thresh)
            ),
            decoder_mlp=int(config.get("decoder_mlp", defaults.decoder_mlp)),
            iou_head_hidden=int(config.get("iou_head_hidden", defaults.iou_head_hidden)),
        )
    except KeyError as e:
        raise IntegrityError(f"the SAM 2 configuration has no field {e.args[0]!r}") from e
    except (TypeError, ValueError, AttributeError, OverflowError) as e:
        raise IntegrityError(f"the SAM 2 configuration has a field of the wrong type: {e}") from e
    vision = _bounded(vision, "the SAM 2 configuration")
    if (
        len(vision.stages) != 4
        or len(vision.window_spec) != 4
        or 0 in vision.window_spec
        or vision.embed_dim % vision.num_heads
        or vision.image_size % (4 * vision.window_spec[0])
        or vision.image_size % 32
        or vision.d_model % (2 * vision.decoder_heads)
        or vision.d_model % vision.mem_dim
        or vision.mem_dim % 2
    ):
        raise IntegrityError(f"the SAM 2 configuration has sizes that do not go together: {vision}")
    return vision


_Config = TypeVar("_Config", LanguageConfig, VisionConfig)


def _bounded(config: _Config, where: str) -> _Config:
    """Hold a configuration read from a file to the bounds that bundle.json is held to."""
    try:
        return msgspec.convert(msgspec.to_builtins(config), type(config))
    except msgspec.ValidationError as e:
        raise IntegrityError(f"{where} has an impossible size: {e}") from e


def _pair(value: Any) -> tuple[int, int]:
    first, second = value
    return int(first), int(second)
