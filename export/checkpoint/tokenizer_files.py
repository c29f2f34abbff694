"""The tokenizer as one JSON document: read from a PAM folder, or made up for random weights.

Knows tokenizers, not models: `checkpoint.py` checks how many embedding rows belong to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from pam_edge.core.errors import IntegrityError
from pam_edge.export.checkpoint.weight_files import MAX_JSON_BYTES, read_json

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
    except (IntegrityError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as e:  # plain Exception for a damaged file; a Rust panic is only a BaseException
        raise IntegrityError(f"{path} is damaged or no tokenizer ({str(e)[:200]}); download it again") from e
    tokenizer.no_truncation()  # left from training in some files: they would silently change the ids
    tokenizer.no_padding()
    for token in (IM_START, IM_END):
        token_id(tokenizer, token)
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token there must be. Raises IntegrityError where the tokenizer has none of that name."""
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        raise IntegrityError(f"the tokenizer has no {token}: not one of a PAM folder")
    return found


def tokenizer_length(tokenizer: Tokenizer) -> int:
    """Rows of the embedding the tokenizer can name: its highest id plus one."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def _from_vocabulary(folder: Path) -> Tokenizer:
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocabulary.is_file() and merges.is_file()):
        raise IntegrityError(f"{folder} has neither tokenizer.json nor vocab.json with merges.txt")
    tokenizer = _qwen2(models.BPE.from_file(str(vocabulary), str(merges)))
    for token_id, text, special in _added(folder):
        token = AddedToken(text, special=special, normalized=False)
        if special:
            tokenizer.add_special_tokens([token])
        else:
            tokenizer.add_tokens([token])
        if tokenizer.token_to_id(text) != token_id:
            raise IntegrityError(
                f"{folder}: the token {text!r} should have id {token_id}, but it gets "
                f"{tokenizer.token_to_id(text)}; download the folder again"
            )
    return tokenizer


def _added(folder: Path) -> list[tuple[int, str, bool]]:
    """Tokens on top of the vocabulary by id, with whether they are control tokens.

    They are in tokenizer_config.json, or in added_tokens.json, where all of Qwen2's are control tokens.
    """
    config, added = folder / "tokenizer_config.json", folder / "added_tokens.json"
    table = read_json(config).get("added_tokens_decoder") if config.is_file() else None
    if table:
        rows = [(int(n), str(entry["content"]), bool(entry.get("special"))) for n, entry in table.items()]
    else:
        listed = read_json(added) if added.is_file() else {}
        rows = [(int(n), text, True) for text, n in listed.items()]
    return sorted(rows)


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
