"""The tokenizer as one JSON document: read from a PAM folder, or made up for random weights.

It knows tokenizers, not models: how many embedding rows belong to one is checked in `checkpoint.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from pam_edge.errors import IntegrityError
from pam_edge.export.weight_files import MAX_JSON_BYTES, read_json

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
# How Qwen2 cuts text before byte-level BPE.
QWEN2_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def read_tokenizer(folder: Path) -> Tokenizer:
    """From `tokenizer.json`, else from `vocab.json` and `merges.txt` with Qwen2's rules around them.

    Raises IntegrityError where neither is there, where one is damaged, or where ChatML's tokens are missing.
    """
    path = folder / "tokenizer.json"
    try:
        if path.is_file():
            if path.stat().st_size > MAX_JSON_BYTES:
                raise IntegrityError(f"{path} is over {MAX_JSON_BYTES >> 20} MiB; refusing to read it")
            tokenizer = Tokenizer.from_file(str(path))
        else:
            path = folder / "vocab.json"
            tokenizer = _from_vocabulary(folder)
    except IntegrityError:
        raise
    except Exception as e:  # the library raises plain Exception for every damaged file
        raise IntegrityError(f"{path} is damaged or no tokenizer ({str(e)[:200]}); download it again") from e
    for token in (IM_START, IM_END):
        if tokenizer.token_to_id(token) is None:
            raise IntegrityError(f"{path} has no {token}: not the tokenizer of a PAM folder")
    return tokenizer


def tokenizer_length(tokenizer: Tokenizer) -> int:
    """Rows of the embedding the tokenizer can name: its highest id plus one."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def _from_vocabulary(folder: Path) -> Tokenizer:
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocabulary.is_file() and merges.is_file()):
        raise IntegrityError(f"{folder} has neither tokenizer.json nor vocab.json with merges.txt")
    tokenizer = _qwen2(models.BPE.from_file(str(vocabulary), str(merges)))
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in _added(folder)]
    )
    return tokenizer


def _added(folder: Path) -> list[str]:
    """Tokens added on top of the vocabulary, by id: from tokenizer_config.json, else added_tokens.json."""
    config, added = folder / "tokenizer_config.json", folder / "added_tokens.json"
    if config.is_file() and (table := read_json(config).get("added_tokens_decoder")):
        rows: list[tuple[int, str]] = [(int(n), str(entry["content"])) for n, entry in table.items()]
    elif added.is_file():
        rows = [(int(n), text) for text, n in read_json(added).items()]
        # added_tokens.json leaves out what special_tokens_map.json has; for Qwen2 that is the first of them.
        if END_OF_TEXT not in [text for _, text in rows]:
            rows.append((-1, END_OF_TEXT))
    else:
        rows = [(0, END_OF_TEXT), (1, IM_START), (2, IM_END)]
    return [text for _, text in sorted(rows)]


def _qwen2(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def standin_tokenizer(texts: Sequence[str], *, size: int) -> Tokenizer:
    """A byte-level BPE made from `texts` alone: it can write any text, and `texts` are short in it."""
    tokenizer = _qwen2(models.BPE())
    trainer: Any = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END_OF_TEXT, IM_START, IM_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
