"""nano as it ships inside the package: weights in the official file formats, and a ready bundle of them."""

from __future__ import annotations

from pathlib import Path

NANO = "nano"  # what `--weights` and `load` call it
WEIGHTS = Path(__file__).parent / "nano"  # a PAM folder, with SAM 2.1's file and configuration beside it
SAM2, SAM2_CONFIG = WEIGHTS / "sam2.1_nano.pt", WEIGHTS / "sam2.1_nano.json"
BUNDLE = WEIGHTS / "cpu"  # for target cpu
