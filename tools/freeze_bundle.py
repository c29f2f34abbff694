"""Write a small bundle that later versions must open, once for each schema of bundle.json.

    python tools/freeze_bundle.py tests/frozen/bundles/schema-N-int4

Each was made by the version that introduced its schema, and is never written again. Weights are random, at
about the least widths that the architecture allows, in the scheme that has every kind of stored number:
4-bit, 8-bit and float.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pam_edge.bundle import config
from pam_edge.bundle.config import LanguageConfig, PerceiverConfig, Variant, VisionConfig
from pam_edge.export.driver.build import build, plan
from pam_edge.quantize.calibration import drawn_samples

TINY = Variant(
    name="tiny",
    language=LanguageConfig(
        vocab_size=320, hidden_size=64, layers=2, heads=2, kv_heads=1, mlp=128, head_dim=32, max_length=512
    ),
    vision=VisionConfig(
        image_size=128,
        embed_dim=16,
        num_heads=1,
        stages=(1, 1, 2, 1),
        global_att_blocks=(3,),
        window_spec=(8, 4, 8, 4),
        d_model=32,
        mem_dim=16,
        decoder_mlp=64,
        decoder_heads=4,
        iou_head_hidden=32,
        memory_layers=1,
        memory_mlp=64,
        memory_fuser_layers=1,
    ),
    perceiver=PerceiverConfig(depth=1, num_heads=4, mlp=64, semantic_tokens=4),
)


def main(folder: Path) -> None:
    """Write it. Raises UsageError where the folder is taken."""
    config.VARIANTS = (*config.VARIANTS, TINY)
    samples = drawn_samples(TINY.vision.image_size)
    build(plan("random:tiny", target="cpu", scheme="int4", samples=lambda _: samples), folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
