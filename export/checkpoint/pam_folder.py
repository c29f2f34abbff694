"""The specifics of a PAM folder: key names, spare vocabulary rows, an explicit head, and stop tokens.

Reads headers and small files only; `checkpoint.py` reads the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from pam_edge.bundle.config import PerceiverConfig
from pam_edge.core.errors import IntegrityError
from pam_edge.export.checkpoint.keys import EMBED_TOKENS, LM_HEAD
from pam_edge.export.checkpoint.tokenizer_files import IM_END, token_id, tokenizer_length
from pam_edge.export.checkpoint.weight_files import Entry, listing, read_json

COMPARED_ROWS = 8192
# Rows beyond the tokenizer's length that count as padding, as a share of all: 0.2 % in Qwen2.5's files. Many
# more are words the tokenizer does not spell out, as in the reference checkpoint, whose answers use them.
PADDING_SHARE = 1 / 64
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


def renamed(folder: Path, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """A PAM folder's entries under our keys; those of no known prefix are an error."""
    known: dict[str, Entry] = {}
    unknown: list[str] = []
    for key, entry in entries.items():
        for theirs, ours in RENAMES:
            if key.startswith(theirs):
                known[ours + key[len(theirs) :]] = entry
                break
        else:
            unknown.append(key)
    if unknown:
        raise IntegrityError(
            f"{folder}: {listing('keys that are no part of PAM', unknown)}is this a PAM folder?"
        )
    return known


def vocabulary_rows(folder: Path, entries: Mapping[str, Entry], length: int) -> int:
    """Rows of the embedding that count: padded ones must never win, so the original drops them at load."""
    rows = (
        entries[EMBED_TOKENS].shape[0] if EMBED_TOKENS in entries and entries[EMBED_TOKENS].shape else length
    )
    if rows < length:
        raise IntegrityError(
            f"{folder}: the tokenizer has {length} ids but {EMBED_TOKENS} only {rows} rows; "
            "the tokenizer and the weights are not of one model"
        )
    return length if rows - length <= rows * PADDING_SHARE else rows


def cut_vocabulary(entries: Mapping[str, Entry], rows: int) -> dict[str, Entry]:
    """Embedding and head with only their first `rows` rows."""
    cut = dict(entries)
    for key in (EMBED_TOKENS, LM_HEAD):
        if key in cut and len(cut[key].shape) == 2 and cut[key].shape[0] > rows:
            cut[key] = _first_rows(cut[key], rows)
    return cut


def _first_rows(entry: Entry, rows: int) -> Entry:
    return Entry((rows, entry.shape[1]), entry.rows)


def without_tied_head(folder: Path, entries: dict[str, Entry]) -> dict[str, Entry]:
    """Some tools write a tied head out; it must then be the embedding."""
    head, embedding = entries[LM_HEAD], entries.get(EMBED_TOKENS)
    if embedding is not None and not _equal(head, embedding):
        raise IntegrityError(
            f"{folder}: config.json ties the head to the embedding, but {LM_HEAD} differs from it"
        )
    return {key: entry for key, entry in entries.items() if key != LM_HEAD}


def _equal(a: Entry, b: Entry) -> bool:
    """Compared a few rows at a time: they are a model's largest tensors."""
    if a.shape != b.shape or len(a.shape) != 2:
        return False
    parts = range(0, a.shape[0], COMPARED_ROWS)
    return all(
        torch.equal(a.rows(at, end), b.rows(at, end))
        for at, end in ((at, min(at + COMPARED_ROWS, a.shape[0])) for at in parts)
    )


def perceiver_of(entries: Mapping[str, Entry]) -> PerceiverConfig:
    """The perceiver's numbers are in its weights alone; where those are missing, PAM's own."""
    default = PerceiverConfig()

    def rows(key: str, otherwise: int) -> int:
        shape = entries[key].shape if key in entries else ()
        return shape[0] if len(shape) == 2 else otherwise

    return PerceiverConfig(
        mlp=rows("perceiver.layers.0.mlp.layers.0.weight", default.mlp),
        semantic_tokens=rows("perceiver.sem_tokens.weight", default.semantic_tokens),
    )


def stop_ids(folder: Path, config: Mapping[str, Any], tokenizer: Tokenizer) -> tuple[int, ...]:
    """`<|im_end|>`, then whatever else generation_config.json (or config.json) ends at."""
    path = folder / "generation_config.json"
    listed = (read_json(path) if path.is_file() else config).get("eos_token_id", [])
    listed = listed if isinstance(listed, list) else [listed]
    if not all(isinstance(n, int) and 0 <= n < tokenizer_length(tokenizer) for n in listed):
        raise IntegrityError(f"{path}: eos_token_id {listed} is not a list of token ids")
    return tuple(dict.fromkeys([token_id(tokenizer, IM_END), *listed]))
