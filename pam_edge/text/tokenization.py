"""Prompts of the language model: the chat template around the visual tokens, the tasks, and the tokenizer.

The template's markers (`<|im_end|>` and others) become control tokens; text from users never does. It passes
through the tokenizer's normalizer, splitter and merges only, not through its table of added tokens, so a
question that contains `<|im_end|>` or `<image>` is read as those letters. Knows no picture, no model and no
engine.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import Tokenizer, decoders

from pam_edge.bundle.manifest import Prompts
from pam_edge.core.errors import IntegrityError, PamEdgeError, UsageError

Lang = Literal["en", "zh"]
MAX_QUESTION = 4000  # characters
_HISTORY = "{history}"
_NO_HISTORY: dict[Lang, str] = {"en": "None", "zh": "无"}

# The original's chat template (ChatML) and task texts; `<image>` is where `before` ends and `after` starts.
PAM_PROMPTS = Prompts(
    before="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
    after="\n{task}<|im_end|>\n<|im_start|>assistant\n",
    tasks={
        "en": {
            "recognize": "Classify this subject and provide its label.",
            "explain": "Classify this subject and provide the label and its definition.",
            "brief": "Provide a concise caption for this subject.",
            "detailed": "Provide a comprehensive and detailed description for this subject.",
            "video": "Provide a caption for this subject in this video.\nPrevious caption: {history}",
        },
        "zh": {
            "recognize": "对该目标对象进行分类并提供标签",
            "explain": "对该目标对象进行分类并提供标签和名词功能解释",
            "brief": "对该目标对象提供一个概括的描述",
            "detailed": "对该目标对象提供一个全面且详细的描述",
            "video": "对该视频中的目标对象提供一个描述。\n历史描述：{history}",
        },
    },
)


@dataclass(frozen=True)
class Question:
    """A question in a person's own words, asked in place of a task. Raises UsageError where empty or far
    too long.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UsageError("the question is empty: ask something")
        if len(self.text) > MAX_QUESTION:
            raise UsageError(
                f"the question has {len(self.text)} characters; at most {MAX_QUESTION} are taken"
            )


Task = str | Question  # a task's name, or a question


def task_name(task: Task) -> str:
    """How an answer is labelled: the task's name, or "question"."""
    return "question" if isinstance(task, Question) else task


class Texts:
    """Text to tokens and back for one bundle: its byte-level BPE `tokenizer.json` and its prompts."""

    def __init__(self, tokenizer_json: bytes, prompts: Prompts) -> None:
        """Raises IntegrityError where the tokenizer cannot be read or is not byte-level, or the prompts
        lack `{task}`.
        """
        with _reading():
            self._tokenizer = Tokenizer.from_str(tokenizer_json.decode())
            # Some files carry how they once were used in training; it would silently change the ids.
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        if not isinstance(self._tokenizer.decoder, decoders.ByteLevel):
            raise IntegrityError("the bundle's tokenizer is not byte-level BPE, the only kind PAM uses")
        if prompts.after.count("{task}") != 1:
            raise IntegrityError(
                "the bundle's prompts need {task} once after the image; export the bundle again"
            )
        self._prompts = prompts
        self._added = {token_id: (t.content, t.special) for token_id, t in _added(self._tokenizer)}
        markers = sorted((re.escape(content) for content, _ in self._added.values()), key=len, reverse=True)
        self._marker = re.compile("|".join(markers) or r"(?!)")
        self._bytes = _byte_table()

    @property
    def ids_before(self) -> tuple[int, ...]:
        """Tokens before the visual ones; the same for every task."""
        return self._parse(self._prompts.before)

    def ids_after(self, task: Task, *, lang: Lang = "en", history: str | None = None) -> tuple[int, ...]:
        """Tokens after the visual ones. `history` is the caption before, for tasks that have a slot for it
        ("" at the start of a video). A still picture has none, and cannot be asked such a task.

        Raises UsageError for an unknown task or language, a task that lacks its history, or text that cannot
        be written in UTF-8.
        """
        start, end = self._prompts.after.split("{task}")
        marks = list(self._marker.finditer(start))
        head = start[: marks[-1].end()] if marks else ""
        mark = self._marker.search(end)
        rest = end[mark.start() :] if mark else ""
        # Template text that touches the task's is tokenized with it, as it would be in one string.
        text = (
            start[len(head) :]
            + self.task_text(task, lang=lang, history=history)
            + end[: len(end) - len(rest)]
        )
        return (*self._parse(head), *self._plain(text), *self._parse(rest))

    def task_text(self, task: Task, *, lang: Lang = "en", history: str | None = None) -> str:
        """The words of a task. Raises UsageError listing the tasks that are possible."""
        if isinstance(task, Question):
            return task.text
        tasks = self._prompts.tasks.get(lang)
        if tasks is None:
            known = ", ".join(sorted(self._prompts.tasks))
            raise UsageError(f"this bundle has no tasks in language {lang!r}; it has {known}")
        possible = [name for name, words in tasks.items() if history is not None or _HISTORY not in words]
        if task not in possible:
            wrong = f"task {task!r} is for videos only" if task in tasks else f"unknown task {task!r}"
            raise UsageError(f"{wrong}; known: {', '.join(possible)}, or a question of your own")
        return tasks[task].replace(_HISTORY, history or _NO_HISTORY[lang])

    def decode(self, ids: Iterable[int]) -> str:
        """Text of finished tokens; control tokens are left out.

        Bytes that are no UTF-8, and ids the tokenizer has no word for, become U+FFFD.
        """
        return b"".join(map(self._token_bytes, ids)).decode("utf-8", errors="replace")

    def detokenizer(self) -> Detokenizer:
        """A fresh one, for one stream of tokens."""
        return Detokenizer(self)

    def _parse(self, text: str) -> tuple[int, ...]:
        with _reading():
            return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _plain(self, text: str) -> tuple[int, ...]:
        tokenizer = self._tokenizer
        try:
            text.encode()
        except UnicodeEncodeError as e:
            raise UsageError(
                f"the question holds a character that is no text ({e.reason}); write it anew"
            ) from e
        with _reading():
            if tokenizer.normalizer is not None:
                text = tokenizer.normalizer.normalize_str(text)
            pieces = (
                tokenizer.pre_tokenizer.pre_tokenize_str(text)
                if tokenizer.pre_tokenizer
                else [(text, (0, 0))]
            )
            ids = tuple(token.id for piece, _ in pieces for token in tokenizer.model.tokenize(piece))
        if any(self._added.get(token_id, ("", False))[1] for token_id in ids):
            raise UsageError(
                "the question spells a control token in a way this tokenizer cannot take; reword it"
            )
        return ids

    def _token_bytes(self, token_id: int) -> bytes:
        if token_id in self._added:
            content, special = self._added[token_id]
            return b"" if special else content.encode()
        token = self._tokenizer.id_to_token(token_id)
        if token is None:  # a vocabulary larger than its tokenizer: random weights, seeded reference ones
            return "\ufffd".encode()
        if any(character not in self._bytes for character in token):
            return str(token).encode()
        return bytes(self._bytes[character] for character in token)


class Detokenizer:
    """Tokens to pieces of text, as they come: a character whose bytes are not all there yet is held back.

    The pieces joined equal `Texts.decode` of all tokens.
    """

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text this token completes, often "" inside a Chinese character."""
        return self._utf8.decode(self._texts._token_bytes(token_id))

    def finish(self) -> str:
        """What was still held back: U+FFFD for a character cut off by the end, else ""."""
        return self._utf8.decode(b"", final=True)


@contextmanager
def _reading() -> Iterator[None]:
    """Whatever the tokenizers library raises as IntegrityError: plain Exceptions, and the panics of its Rust
    half, which are BaseExceptions of a type that cannot be imported.
    """
    try:
        yield
    except (PamEdgeError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as e:
        why = str(e)[:200]
        raise IntegrityError(
            f"the bundle's tokenizer cannot be read ({why}); copy or export the bundle again"
        ) from e


def _added(tokenizer: Tokenizer) -> Iterable[tuple[int, Any]]:
    table = tokenizer.get_added_tokens_decoder()
    return [(int(token_id), token) for token_id, token in table.items()]


def _byte_table() -> dict[str, int]:
    """GPT-2's letters for bytes: printable bytes are themselves, the other 68 are U+0100 and on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in printable}
    others = [b for b in range(256) if b not in set(printable)]
    return table | {chr(0x100 + i): b for i, b in enumerate(others)}
