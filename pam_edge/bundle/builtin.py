"""nano as it ships inside the package: weights in the official file formats, and a ready bundle of them.

The name `nano` has one rule: a folder of that name here that holds the right object wins, else the package's.
"""

from __future__ import annotations

from pathlib import Path

from pam_edge.core.errors import UsageError

NANO = "nano"  # what `--weights` and `load` call it
WEIGHTS = Path(__file__).parents[1] / "nano"  # a PAM folder, with SAM 2.1's file and configuration beside it
SAM2, SAM2_CONFIG = WEIGHTS / "sam2.1_nano.pt", WEIGHTS / "sam2.1_nano.json"
BUNDLE = WEIGHTS / "cpu"  # for target cpu


def bundle_folder(given: str | Path) -> Path:
    """Where a bundle that was asked for lies. Raises UsageError where there is no such folder."""
    folder = Path(given)
    if _is_nano(folder) and not (folder / "bundle.json").is_file():
        if (BUNDLE / "bundle.json").is_file():
            return BUNDLE
        raise UsageError(
            "this installation has no packaged bundle: make one with "
            f"`pam-edge export --target cpu -o {NANO}`"
        )
    if not folder.is_dir():
        raise UsageError(f"no bundle at {folder}: make one with `pam-edge export --target cpu -o {folder}`")
    return folder


def ships(weights: str | Path) -> bool:
    """Whether weights that were asked for are the packaged ones."""
    return _is_nano(Path(weights)) and not (Path(weights) / "config.json").is_file()


def _is_nano(path: Path) -> bool:
    return path == Path(NANO)
