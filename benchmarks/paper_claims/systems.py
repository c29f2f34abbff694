"""The systems that are rebuilt: their shapes, where each is published, and what is left out.

Only what costs time or memory is a shape here: layers, widths, how many pictures are looked at and how many
tokens the language model reads. Nothing is learned from what a rebuilt system says. Knows no engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from pam_edge.benchmarks.paper_claims.published import Task
from pam_edge.bundle.config import LanguageConfig, Variant, VisionConfig
from pam_edge.core.errors import UsageError

Bridge = Literal["linear", "downsample", "stc"]  # from the tower's features to what is read


@dataclass(frozen=True)
class Tower:
    """A plain ViT: pictures [N, 3, image, image] to features [N, side * side, width].

    `layers` are those whose result is read; all three systems read the last but one, and a last one that
    nobody reads is not run. `focal`: a second look runs through the same layers, a gated cross-attention to
    the first look's result behind each.
    """

    image: int  # side in pixels
    patch: int
    width: int
    layers: int
    heads: int
    mlp: int
    class_token: bool = False  # one more position, dropped at the end
    focal: bool = False

    @property
    def side(self) -> int:
        """Patches along a side."""
        return self.image // self.patch


@dataclass(frozen=True)
class System:
    """One system of the paper's figure."""

    name: str  # as in the figure
    key: str  # of folders and rows
    language: LanguageConfig
    tower: Tower
    bridge: Bridge
    tasks: tuple[Task, ...]  # panels of the figure that it is rebuilt for
    frames: int  # of a clip that it looks at
    sources: tuple[str, ...]
    left_out: tuple[str, ...]

    def looks(self, task: Task) -> int:
        """How many pictures go through the tower, a focal second look not counted."""
        return 1 if task == "image" else self.frames

    def visual_tokens(self, task: Task) -> int:
        """Positions that the language model reads of what is seen."""
        side = self.tower.side
        match self.bridge:
            case "linear":
                return self.looks(task) * side * side
            case "downsample":
                return self.looks(task) * (-(-side // 2)) ** 2
            case "stc":
                return self.looks(task) // 2 * (side // 2) ** 2

    @property
    def parameters(self) -> int:
        """Weights, counted from the shapes; biases, norms and positions, a thousandth, are not."""
        return _language_parameters(self.language) + self.vision_parameters

    @property
    def vision_parameters(self) -> int:
        """Those of the tower, its focal look and what joins it to the language model."""
        t, hidden = self.tower, self.language.hidden_size
        layer = 4 * t.width**2 + 2 * t.width * t.mlp
        tower = t.layers * layer * (2 if t.focal else 1) + 3 * t.patch**2 * t.width
        match self.bridge:
            case "linear":
                return tower + t.width * hidden
            case "downsample":
                return tower + 4 * t.width * hidden + hidden**2
            case "stc":
                # A block is two matrices and a gate of half of one; the first widens, its shortcut too.
                blocks = round(2.5 * hidden * ((2 * STC_DEPTH - 1) * hidden + t.width)) + hidden**2
                return tower + blocks + 10 * hidden**2


def pam_parameters(variant: Variant) -> int | None:
    """PAM's weights, counted likewise: SAM 2.1-L's published 224.4 M, the language model, what joins them.

    None of a variant with another vision tower.
    """
    if variant.vision != VisionConfig():
        return None
    hidden = variant.language.hidden_size
    joins = (1024 + hidden) * hidden + (256 + hidden) * hidden + 4096 * 1024
    return 224_400_000 + _language_parameters(variant.language) + joins


def _language_parameters(n: LanguageConfig) -> int:
    attention = n.hidden_size * n.head_dim * 2 * (n.heads + n.kv_heads)
    words = n.vocab_size * n.hidden_size * (1 if n.tied else 2)
    return words + n.layers * (attention + 3 * n.hidden_size * n.mlp)


STC_DEPTH = 4  # blocks of each of its two stages
TEXT = 64  # tokens around what is seen, of every rebuilt system: their prompts take 50 to 90

_SIGLIP = "google/siglip-so400m-patch14-384, config.json: 27 layers, 1152 wide, 16 heads, mlp 4304, 384 / 14"
_BIASES = (
    "LLaMA has no biases on q, k, v; the decoder's writer always adds them (a ten-thousandth of the work)"
)
_GELU = "GELU is the exact one, as in PAM's encoder, where the tower has a tanh or a sigmoid in its place"
_REGION = "the region's own features (a pooling or sampling in its mask, one to four tokens)"

DAM_3B = System(
    name="DAM-3B",
    key="dam-3b",
    language=LanguageConfig(
        vocab_size=32000,
        hidden_size=2560,
        layers=32,
        heads=20,
        kv_heads=20,
        mlp=6912,
        rope_theta=1e4,
        rms_norm_eps=1e-5,
        tied=False,
        max_length=4096,
    ),
    tower=Tower(image=384, patch=14, width=1152, layers=26, heads=16, mlp=4304, focal=True),
    bridge="downsample",
    tasks=("image", "video"),
    frames=8,
    sources=(
        "language: Efficient-Large-Model/VILA1.5-3b, llm/config.json (copy Ligeng-Zhu/VILA15_3b): "
        "Sheared-LLaMA 2.7B, "
        "32 layers, 2560 wide, 20 heads, mlp 6912, vocabulary 32000",
        f"tower: {_SIGLIP}; nvidia/DAM-3B, vision_tower: 857 MB in 16 bits",
        "focal prompt: NVlabs/describe-anything at 153ad3d, dam/model/llava_arch.py "
        "(encode_images_with_context) and "
        "multimodal_encoder/context_provider.py; a block of cross-attention and mlp behind each of 27 "
        "layers: "
        "nvidia/DAM-3B, context_provider/model.safetensors is 823 MB, 27 such blocks in 16 bits are",
        "tokens: VILA1.5-3b, mm_projector/config.json (mlp_downsample): 27 x 27 patches padded and joined in "
        "fours, "
        "14 x 14 = 196 a picture; the second look alone is read",
        "clip: NVlabs/describe-anything, demo_video.py: 8 frames, so 1,568 tokens",
    ),
    left_out=(
        "the mask as a fourth channel of the pictures",
        "SAM, which makes that mask: counted apart",
        "the tower's weights lie in both of its graphs; what that takes twice is taken off the memory",
        _BIASES,
        _GELU,
    ),
)
FERRET_7B = System(
    name="Ferret-7B",
    key="ferret-7b",
    language=LanguageConfig(
        vocab_size=32000,
        hidden_size=4096,
        layers=32,
        heads=32,
        kv_heads=32,
        mlp=11008,
        rope_theta=1e4,
        tied=False,
        max_length=2048,
    ),
    tower=Tower(image=336, patch=14, width=1024, layers=23, heads=16, mlp=4096, class_token=True),
    bridge="linear",
    tasks=("image",),
    frames=1,
    sources=(
        "apple/ml-ferret, README.md and ferret/model/ferret_arch.py (arXiv 2310.07704): CLIP ViT-L/14 at "
        "336, one "
        "linear projector, Vicuna-7B v1.3",
        "language: lmsys/vicuna-7b-v1.3, config.json: 32 layers, 4096 wide, 32 heads, mlp 11008, vocabulary "
        "32000",
        "tower: openai/clip-vit-large-patch14-336, config.json: 24 layers, 1024 wide, 16 heads, mlp 4096, "
        "336 / 14, "
        "so 24 x 24 = 576 tokens",
    ),
    left_out=(_REGION, _BIASES, _GELU),
)
VIDEOREFER_7B = System(
    name="VideoRefer-7B",
    key="videorefer-7b",
    language=LanguageConfig(
        vocab_size=151647,
        hidden_size=3584,
        layers=28,
        heads=28,
        kv_heads=4,
        mlp=18944,
        tied=False,
        max_length=8192,
    ),
    tower=Tower(image=384, patch=14, width=1152, layers=26, heads=16, mlp=4304),
    bridge="stc",
    tasks=("video",),
    frames=16,
    sources=(
        "DAMO-NLP-SG/VideoRefer-7B-stage2.5, config.json: Qwen2-7B-Instruct (28 layers, 3584 wide, 28 heads, "
        "4 of keys, "
        "mlp 18944, vocabulary 151647), stc_connector_v35, 16 frames, layer -2 of siglip-so400m-patch14-384",
        f"tower: {_SIGLIP}",
        "connector: DAMO-NLP-SG/VideoRefer at cbd4207, videorefer/model/projector.py (STCConnectorV35): two "
        "stages of "
        "four RegNet blocks around a convolution of 2 x 2 x 2: 8 x 13 x 13 = 1,352 tokens a clip",
        "the frame with the mask goes through the tower once more: videorefer/model/videorefer_arch.py",
    ),
    left_out=(_REGION, _GELU),
)
SYSTEMS: tuple[System, ...] = (DAM_3B, FERRET_7B, VIDEOREFER_7B)

NOT_REBUILT = {
    "LLaVA-OV-7B": "not rebuilt: how many crops of a picture it read in the figure, and how it was told the "
    "region, is not published",
    "VP-SPHINX-13B": "not rebuilt: 13B at 4 bits takes more memory and disk than this check is meant to ask "
    "for",
    "Omni-RGPT-7B": "not rebuilt: no public code or configuration of it was found",
}


def as_word(system: System) -> str:
    """The system as one word of a command."""
    return msgspec.json.encode(system).decode()


def of_word(word: str) -> System:
    """The system that `as_word` wrote."""
    return msgspec.json.decode(word, type=System)


def system_named(key: str) -> System:
    """The system of that key. Raises UsageError listing the known ones."""
    for system in SYSTEMS:
        if system.key == key:
            return system
    raise UsageError(f"unknown system {key!r}; known: {', '.join(s.key for s in SYSTEMS)}")
