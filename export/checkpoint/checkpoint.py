"""A PAM checkpoint as named tensors under one set of keys, and modules filled from it.

Sources: a PAM folder with SAM 2's weights inside it or beside it, or seeded random weights. Tensors are read
one at a time, large ones in groups of rows; code in files is never run. Knows neither graphs nor targets.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from pam_edge.bundle import builtin
from pam_edge.bundle.config import (
    VARIANTS,
    Licence,
    Variant,
    VisionConfig,
    language_from_hf,
    variant_named,
    vision_from_sam2,
)
from pam_edge.bundle.manifest import Weights
from pam_edge.core.errors import IntegrityError, UsageError
from pam_edge.export.checkpoint.keys import LM_HEAD
from pam_edge.export.checkpoint.pam_folder import (
    cut_vocabulary,
    perceiver_of,
    renamed,
    stop_ids,
    vocabulary_rows,
    without_tied_head,
)
from pam_edge.export.checkpoint.random_weights import random_entries
from pam_edge.export.checkpoint.tokenizer_files import (
    END_OF_TEXT,
    IM_END,
    read_tokenizer,
    standin_tokenizer,
    token_id,
    tokenizer_length,
)
from pam_edge.export.checkpoint.weight_files import Entry, listing, read_json, safetensors_folder, sam2_file
from pam_edge.export.model.language import Language
from pam_edge.export.model.perceiver import Perceiver
from pam_edge.export.model.vision import VisionTower
from pam_edge.text.tokenization import PAM_PROMPTS

RANDOM = "random:"
STANDIN_VOCAB = 1024
UNKNOWN_LICENCE = (Licence("weights of unknown origin", "unknown", False, "ask whoever made them"),)


class LazyRows:
    """A tensor by its rows: `lazy[3:7]` reads four of them, float32; the rest stays where it is."""

    def __init__(self, entry: Entry) -> None:
        self.shape = entry.shape
        self._entry = entry

    def __getitem__(self, rows: slice, /) -> npt.NDArray[np.float32]:
        start, stop, step = rows.indices(self.shape[0])
        if step != 1:
            raise ValueError("rows are read one after the other")
        found: npt.NDArray[np.float32] = self._entry.rows(start, stop).numpy()
        return found


class Checkpoint:
    """Named tensors of one PAM model, with its variant and tokenizer.

    Keys: `vision.<SAM 2's key>`, `perceiver.<key>`, `language.<Qwen2's key>`.
    """

    def __init__(
        self,
        variant: Variant,
        entries: Mapping[str, Entry],
        *,
        weights: Weights,
        tokenizer: Tokenizer,
        stop_ids: tuple[int, ...],
    ) -> None:
        self.variant = variant
        self.weights = weights
        self.tokenizer_json: bytes = tokenizer.to_str(pretty=False).encode()
        self.stop_ids = stop_ids
        self._entries = dict(entries)

    def keys(self) -> tuple[str, ...]:
        """Every key, in no particular order."""
        return tuple(self._entries)

    def shape(self, key: str) -> tuple[int, ...]:
        """A tensor's shape, without reading it."""
        return self._entries[key].shape

    def tensor(self, key: str) -> Tensor:
        """One tensor, float32, read (or made) now."""
        return self._entries[key].read()

    def read_by(self, tensor: Callable[[str], Tensor]) -> Checkpoint:
        """The same checkpoint, its whole tensors given by `tensor`, which takes a key."""
        other = copy.copy(self)
        other._entries = {
            key: Entry(entry.shape, partial(_rows_of, tensor, key)) for key, entry in self._entries.items()
        }
        return other

    def lazy(self, key: str) -> LazyRows:
        """A tensor whose rows are read when they are asked for."""
        return LazyRows(self._entries[key])

    def rows(self, key: str, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop` of a tensor, as `tensor` would give them, without reading the others."""
        return self._entries[key].rows(start, stop)


def _rows_of(tensor: Callable[[str], Tensor], key: str, start: int, stop: int) -> Tensor:
    found = tensor(key)
    return found[start:stop] if found.ndim else found


def open_checkpoint(
    weights: str, *, sam2: Path | None = None, sam2_config: Path | None = None, seed: int = 0
) -> Checkpoint:
    """Open a PAM folder, `nano` (see builtin.py), or `random:VARIANT` (seeded by `seed`); reads no tensor.

    sam2: SAM 2.1's own `.pt`; it wins over weights inside the folder. sam2_config: its configuration as JSON
    (default SAM 2.1 Hiera-L). Raises UsageError for what cannot be meant, IntegrityError for a file that is
    damaged, hostile or incomplete: missing, extra and misshaped keys in one message.
    """
    ships = builtin.ships(weights)
    if ships or weights.startswith(RANDOM):
        if sam2 is not None or sam2_config is not None:
            raise UsageError(
                f"--weights {weights} brings its own SAM 2 weights: leave out --sam2 and --sam2-config"
            )
        if not ships:
            return _random(weights, seed)
        weights, sam2, sam2_config = str(builtin.WEIGHTS), builtin.SAM2, builtin.SAM2_CONFIG
    folder = Path(weights)
    if not folder.is_dir():
        raise UsageError(f"no PAM folder at {weights}; give a folder, ORG/NAME, nano or random:VARIANT")
    vision = (
        VisionConfig() if sam2_config is None else vision_from_sam2(_given_json(sam2_config, "--sam2-config"))
    )
    config = read_json(folder / "config.json")
    tokenizer = read_tokenizer(folder)
    entries = renamed(folder, safetensors_folder(folder))
    if sam2 is not None:
        entries = {key: entry for key, entry in entries.items() if not key.startswith("vision.")}
        entries |= {f"vision.{key}": entry for key, entry in sam2_file(sam2).items()}
    elif not any(key.startswith("vision.") for key in entries):
        raise UsageError(f"{folder} holds no SAM 2 weights; pass sam2.1_hiera_large.pt with --sam2")
    vocabulary = vocabulary_rows(folder, entries, tokenizer_length(tokenizer))
    entries = cut_vocabulary(entries, vocabulary)
    language = language_from_hf(config, vocab_size=vocabulary)
    if language.tied and LM_HEAD in entries:
        entries = without_tied_head(folder, entries)
    variant = _recognized(Variant("custom", language, vision, perceiver_of(entries), UNKNOWN_LICENCE))
    _compare(
        expected_shapes(variant), {key: entry.shape for key, entry in entries.items()}, where=str(folder)
    )
    return Checkpoint(
        variant,
        entries,
        weights=Weights(kind="files", source=folder.resolve().name),
        tokenizer=tokenizer,
        stop_ids=stop_ids(folder, config, tokenizer),
    )


def load_module(
    module: nn.Module, checkpoint: Checkpoint, prefix: str, *, without: str | None = None
) -> None:
    """Fill a module built on the meta device from the keys under `prefix` (such as `vision.`).

    What lies below `without` (such as `image_encoder.`) stays on the meta device. Raises one IntegrityError
    that names missing, extra and misshaped keys.
    """
    shapes = {f"{prefix}{key}": tuple(value.shape) for key, value in module.state_dict().items()}
    held = {key: checkpoint.shape(key) for key in checkpoint.keys() if key.startswith(prefix)}  # noqa: SIM118
    _compare(shapes, held, where=checkpoint.weights.source)
    wanted = [key for key in shapes if without is None or not key.startswith(prefix + without)]
    state = {key[len(prefix) :]: checkpoint.tensor(key) for key in wanted}
    module.load_state_dict(state, assign=True, strict=without is None)


def load_vision(checkpoint: Checkpoint, *, image_encoder: bool = True) -> VisionTower:
    """The vision tower, filled, for inference; without its image encoder, it takes a twentieth."""
    with torch.device("meta"):
        module = VisionTower(checkpoint.variant.vision)
    load_module(module, checkpoint, "vision.", without=None if image_encoder else "image_encoder.")
    return module.eval().requires_grad_(False)


def load_perceiver(checkpoint: Checkpoint) -> Perceiver:
    """The Semantic Perceiver with its projectors, filled, for inference."""
    with torch.device("meta"):
        module = Perceiver(checkpoint.variant)
    load_module(module, checkpoint, "perceiver.")
    return module.eval().requires_grad_(False)


def load_language(checkpoint: Checkpoint) -> Language:
    """The language model, filled, for inference: four bytes a weight, 6.2 GB for pam-1.5b."""
    with torch.device("meta"):
        module = Language(checkpoint.variant.language)
    load_module(module, checkpoint, "language.")
    return module.eval().requires_grad_(False)


def expected_shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    """Every canonical key of a variant and its shape."""
    with torch.device("meta"):
        parts: dict[str, nn.Module] = {
            "vision.": VisionTower(variant.vision),
            "perceiver.": Perceiver(variant),
            "language.": Language(variant.language),
        }
    return {
        prefix + key: tuple(value.shape)
        for prefix, part in parts.items()
        for key, value in part.state_dict().items()
    }


def _recognized(variant: Variant) -> Variant:
    """Give a variant with the numbers of a known one that one's name and licences."""
    for known in VARIANTS:
        same_language = msgspec.structs.replace(
            known.language, vocab_size=variant.language.vocab_size, max_length=variant.language.max_length
        )
        if (same_language, known.vision, known.perceiver) == (
            variant.language,
            variant.vision,
            variant.perceiver,
        ):
            return msgspec.structs.replace(variant, name=known.name, licences=known.licences)
    return variant


def _random(weights: str, seed: int) -> Checkpoint:
    variant = variant_named(weights[len(RANDOM) :])
    texts = [PAM_PROMPTS.before, PAM_PROMPTS.after]
    texts += [text for tasks in PAM_PROMPTS.tasks.values() for text in tasks.values()]
    tokenizer = standin_tokenizer(texts, size=min(STANDIN_VOCAB, variant.language.vocab_size))
    return Checkpoint(
        variant,
        random_entries(expected_shapes(variant), seed),
        weights=Weights(kind="random", source=weights),
        tokenizer=tokenizer,
        stop_ids=(token_id(tokenizer, IM_END), token_id(tokenizer, END_OF_TEXT)),
    )


def _given_json(path: Path, option: str) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"no file at {path} ({option})")
    return read_json(path)


def _compare(
    wanted: Mapping[str, tuple[int, ...]], held: Mapping[str, tuple[int, ...]], *, where: str
) -> None:
    missing = [key for key in wanted if key not in held]
    extra = [key for key in held if key not in wanted]
    misshaped = [
        f"{key} {list(held[key])} instead of {list(shape)}"
        for key, shape in wanted.items()
        if key in held and held[key] != shape
    ]
    if missing or extra or misshaped:
        raise IntegrityError(
            f"{where} does not fit: "
            + listing("missing", missing)
            + listing("extra", extra)
            + listing("misshaped", misshaped)
            + "check --weights, --sam2 and --sam2-config"
        )
