"""A PAM checkpoint as named tensors under one set of keys, and modules filled from it.

Sources: a PAM folder with SAM 2's weights inside it or beside it, or seeded random numbers. Tensors are read
one at a time from the memory map; no file's code is ever run. This module knows neither graphs nor targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from pam_edge.bundle import Weights
from pam_edge.config import (
    VARIANTS,
    Licence,
    PerceiverConfig,
    Variant,
    VisionConfig,
    language_from_hf,
    variant_named,
    vision_from_sam2,
)
from pam_edge.errors import IntegrityError, UsageError
from pam_edge.export.model.language import Language
from pam_edge.export.model.perceiver import Perceiver
from pam_edge.export.model.vision import VisionTower
from pam_edge.export.random_weights import random_entries
from pam_edge.export.tokenizer_files import (
    END_OF_TEXT,
    IM_END,
    read_tokenizer,
    standin_tokenizer,
    tokenizer_length,
)
from pam_edge.export.weight_files import Entry, listing, read_json, safetensors_folder, sam2_file
from pam_edge.prompts import PAM_PROMPTS

RANDOM = "random:"
STANDIN_VOCAB = 1024
# Rows beyond the tokenizer's length that count as padding, as a share of all: 0.2 % in Qwen2.5's files. Many
# more are words the tokenizer does not spell out, as in the reference checkpoint, whose answers use them.
PADDING_SHARE = 1 / 64
EMBEDDING, HEAD = "language.embed_tokens.weight", "language.lm_head.weight"
# A PAM folder's key prefixes and ours; the first that fits wins.
RENAMES = (
    ("model.vision_tower.sam2_model_predictor.", "vision."),
    ("model.vision_resampler.", "perceiver."),
    ("model.mm_projector_", "perceiver.mm_projector_"),
    ("model.image_newline", "perceiver.image_newline"),
    ("model.semT_newline", "perceiver.semT_newline"),
    ("model.frame_newline", "perceiver.frame_newline"),
    ("model.embed_tokens.", "language.embed_tokens."),
    ("model.layers.", "language.layers."),
    ("model.norm.", "language.norm."),
    ("lm_head.", "language.lm_head."),
)


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
        """One tensor, float32, read (or made) now; it may alias the memory-mapped file."""
        return self._entries[key].read()


def open_checkpoint(
    weights: str, *, sam2: Path | None = None, sam2_config: Path | None = None, seed: int = 0
) -> Checkpoint:
    """Open a PAM folder, or `random:VARIANT` (seeded by `seed`), without reading its tensors.

    sam2: SAM 2.1's own `.pt`; it wins over weights inside the folder. sam2_config: its configuration as JSON
    (default SAM 2.1 Hiera-L). Raises UsageError for what cannot be meant, IntegrityError for a file that is
    damaged, hostile or incomplete: missing, extra and misshaped keys in one message.
    """
    if weights.startswith(RANDOM):
        if sam2 is not None or sam2_config is not None:
            raise UsageError(
                f"--weights {weights} makes its own SAM 2 weights: leave out --sam2 and --sam2-config"
            )
        return _random(weights, seed)
    folder = Path(weights)
    if not folder.is_dir():
        raise UsageError(f"no PAM folder at {weights}; give a folder or random:VARIANT")
    vision = (
        VisionConfig() if sam2_config is None else vision_from_sam2(_given_json(sam2_config, "--sam2-config"))
    )
    config = read_json(folder / "config.json")
    tokenizer = read_tokenizer(folder)
    entries = _renamed(folder, safetensors_folder(folder))
    if sam2 is not None:
        entries = {key: entry for key, entry in entries.items() if not key.startswith("vision.")}
        entries |= {f"vision.{key}": entry for key, entry in sam2_file(sam2).items()}
    elif not any(key.startswith("vision.") for key in entries):
        raise UsageError(f"{folder} holds no SAM 2 weights; pass sam2.1_hiera_large.pt with --sam2")
    vocabulary = _vocabulary(folder, entries, tokenizer_length(tokenizer))
    entries = _cut_vocabulary(entries, vocabulary)
    language = language_from_hf(config, vocab_size=vocabulary)
    if language.tied and HEAD in entries:
        entries = _without_tied_head(folder, entries)
    variant = _recognized(Variant("custom", language, vision, _perceiver_of(entries), UNKNOWN_LICENCE))
    _compare(
        expected_shapes(variant), {key: entry.shape for key, entry in entries.items()}, where=str(folder)
    )
    return Checkpoint(
        variant,
        entries,
        weights=Weights(kind="trained", source=folder.resolve().name),
        tokenizer=tokenizer,
        stop_ids=_stop_ids(folder, config, tokenizer),
    )


def load_module(module: nn.Module, checkpoint: Checkpoint, prefix: str) -> None:
    """Fill a module built on the meta device from the keys under `prefix` (such as `vision.`).

    Raises one IntegrityError that names missing, extra and misshaped keys.
    """
    wanted = {f"{prefix}{key}": tuple(value.shape) for key, value in module.state_dict().items()}
    held = {key: checkpoint.shape(key) for key in checkpoint.keys() if key.startswith(prefix)}  # noqa: SIM118
    _compare(wanted, held, where=checkpoint.weights.source)
    state = {key[len(prefix) :]: checkpoint.tensor(key) for key in wanted}
    module.load_state_dict(state, assign=True)


def load_vision(checkpoint: Checkpoint) -> VisionTower:
    """The vision tower, filled, for inference."""
    with torch.device("meta"):
        module = VisionTower(checkpoint.variant.vision)
    load_module(module, checkpoint, "vision.")
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


UNKNOWN_LICENCE = (Licence("weights of unknown origin", "unknown", False, "ask whoever made them"),)


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
        stop_ids=(*_ids(tokenizer, IM_END), *_ids(tokenizer, END_OF_TEXT)),
    )


def _renamed(folder: Path, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """A PAM folder's entries under our keys; those of no known prefix are an error."""
    renamed: dict[str, Entry] = {}
    unknown: list[str] = []
    for key, entry in entries.items():
        for theirs, ours in RENAMES:
            if key.startswith(theirs):
                renamed[ours + key[len(theirs) :]] = entry
                break
        else:
            unknown.append(key)
    if unknown:
        raise IntegrityError(
            f"{folder}: {listing('keys that are no part of PAM', unknown)}is this a PAM folder?"
        )
    return renamed


def _vocabulary(folder: Path, entries: Mapping[str, Entry], length: int) -> int:
    """Rows of the embedding that count: padded ones must never win, so the original drops them at load."""
    rows = entries[EMBEDDING].shape[0] if EMBEDDING in entries and entries[EMBEDDING].shape else length
    if rows < length:
        raise IntegrityError(
            f"{folder}: the tokenizer has {length} ids but {EMBEDDING} only {rows} rows; "
            "the tokenizer and the weights are not of one model"
        )
    return length if rows - length <= rows * PADDING_SHARE else rows


def _cut_vocabulary(entries: Mapping[str, Entry], rows: int) -> dict[str, Entry]:
    cut = dict(entries)
    for key in (EMBEDDING, HEAD):
        if key in cut and len(cut[key].shape) == 2 and cut[key].shape[0] > rows:
            cut[key] = _first_rows(cut[key], rows)
    return cut


def _first_rows(entry: Entry, rows: int) -> Entry:
    return Entry((rows, entry.shape[1]), lambda: entry.read()[:rows])


def _without_tied_head(folder: Path, entries: dict[str, Entry]) -> dict[str, Entry]:
    """Some tools write a tied head out; it must then be the embedding."""
    head, embedding = entries[HEAD], entries.get(EMBEDDING)
    if embedding is not None and not torch.equal(head.read(), embedding.read()):
        raise IntegrityError(
            f"{folder}: config.json ties the head to the embedding, but {HEAD} differs from it"
        )
    return {key: entry for key, entry in entries.items() if key != HEAD}


def _perceiver_of(entries: Mapping[str, Entry]) -> PerceiverConfig:
    """The perceiver's numbers are in its weights alone; where those are missing, PAM's own."""
    default = PerceiverConfig()
    mlp = entries.get("perceiver.layers.0.mlp.layers.0.weight")
    semantic = entries.get("perceiver.sem_tokens.weight")
    return PerceiverConfig(
        mlp=mlp.shape[0] if mlp and len(mlp.shape) == 2 else default.mlp,
        semantic_tokens=semantic.shape[0]
        if semantic and len(semantic.shape) == 2
        else default.semantic_tokens,
    )


def _stop_ids(folder: Path, config: Mapping[str, Any], tokenizer: Tokenizer) -> tuple[int, ...]:
    """`<|im_end|>`, then whatever else generation_config.json (or config.json) ends at."""
    path = folder / "generation_config.json"
    listed = (read_json(path) if path.is_file() else config).get("eos_token_id", [])
    listed = listed if isinstance(listed, list) else [listed]
    if not all(isinstance(n, int) and 0 <= n < tokenizer_length(tokenizer) for n in listed):
        raise IntegrityError(f"{path}: eos_token_id {listed} is not a list of token ids")
    return tuple(dict.fromkeys([*_ids(tokenizer, IM_END), *listed]))


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return [n] if (n := tokenizer.token_to_id(text)) is not None else []


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
