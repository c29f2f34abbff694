"""nano's tokenizer, a byte-level BPE of the world's texts under Qwen2's rules, and the world's questions.

python -m tools.nano.words --scenes FOLDER --out tokenizer.json
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, get_args

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from pam_edge.benchmarks.synthetic import (
    COLOURS,
    KINDS,
    LANGUAGES,
    PATTERNS,
    TASKS,
    Language,
    clip_words,
    explanation,
)
from pam_edge.benchmarks.synthetic.texts import COLOUR_ZH, PATTERN_ZH, PLACE_ZH, SIZE_ZH
from pam_edge.export.checkpoint.tokenizer_files import END_OF_TEXT, IM_END, IM_START, QWEN2_PIECES
from pam_edge.text.tokenization import PAM_PROMPTS, Lang, Question, Texts
from tools.nano.data import texts_of

SIZE = 2048
SCENES = 6000  # read for their answers
FIXED_COUNTS, ANSWERS = 20, 3000  # fixed sentences count that often, beside a sample of so many answers
LONGEST = 15  # bytes of a token: whole English words, five Chinese characters, no whole sentences


def make_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Trained on `texts`, in sorted order; Qwen2's three control tokens come first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer: Any = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=[END_OF_TEXT, IM_START, IM_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=LONGEST,
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)
    return tokenizer


class Asked(NamedTuple):
    """One question with its answer, as tokens."""

    ids_after: tuple[int, ...]
    answer: tuple[int, ...]  # closed by <|im_end|>
    stressed: tuple[bool, ...] = ()  # which tokens of the answer weigh more; none: no one does


def world_texts(answers: Iterable[str]) -> list[str]:
    """All texts a tokenizer should be short in: prompts, words of the world, clip captions, and `answers`."""
    prompts = [text for lang in PAM_PROMPTS.tasks.values() for text in lang.values()]
    chat = PAM_PROMPTS.before + PAM_PROMPTS.after
    for marker in (IM_START, IM_END):
        chat = chat.replace(marker, " ")
    names = [
        *COLOUR_ZH,
        *COLOUR_ZH.values(),
        *PATTERN_ZH,
        *PATTERN_ZH.values(),
        *PLACE_ZH,
        *PLACE_ZH.values(),
    ]
    names += [*SIZE_ZH, *SIZE_ZH.values(), *PATTERNS, *(c.name for c in COLOURS)]
    names += [text for kind in KINDS for text in (kind.name, f"a {kind.name}", kind.zh)]
    told = [explanation(kind.name, lang) for kind in KINDS for lang in LANGUAGES]
    spoken = {"en": clip_words._EN, "zh": clip_words._ZH}
    moves = [text for words in spoken.values() for entry in words.values() for text in entry]
    sides = [*clip_words._SIDE_EN.values(), *clip_words._SIDE_ZH.values()]
    fixed = [*prompts, chat, *names, *told, *moves, *sides]
    return [*(fixed * FIXED_COUNTS), *sorted(set(answers))[:: max(1, len(set(answers)) // ANSWERS)]]


class Questions:
    """The eight questions about a region and their answers, as tokens of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        texts = Texts(tokenizer.to_str().encode(), PAM_PROMPTS)
        self.before = texts.ids_before
        self.stop = tokenizer.token_to_id(IM_END)
        languages: tuple[Lang, ...] = get_args(Lang)
        self.after = {(t, n): texts.ids_after(t, lang=n) for t, n in itertools.product(TASKS, languages)}
        self.decode = texts.decode
        self._texts = texts
        self._answers: dict[str, tuple[int, ...]] = {}

    def video(self, lang: Lang, history: str) -> tuple[int, ...]:
        """The tokens after a clip's; `history` is the caption before, empty at the start."""
        return self._texts.ids_after("video", lang=lang, history=history)

    def free(self, question: str) -> tuple[int, ...]:
        """The tokens after a region's, for a question in a person's own words."""
        return self._texts.ids_after(Question(question))

    def asked(self, task: str, lang: str, answer: str) -> Asked:
        """The tokens of one question and answer."""
        return Asked(self.after[task, lang], self.answer(answer))

    def happening(self, text: str, lang: Language, *, named: bool = False) -> tuple[bool, ...]:
        """Of `answer(text)`, a segment's caption: which tokens tell what happens; `named`: and to what."""
        start, stop = clip_words.event_at(text, lang)
        if named:
            start -= len(clip_words.told_subject(text, lang))
        places = self.tokenizer.encode(text, add_special_tokens=False).offsets
        return (*(first < stop and start < last for first, last in places), False)

    def answer(self, text: str) -> tuple[int, ...]:
        """The tokens of an answer, closed by <|im_end|>."""
        if text not in self._answers:
            self._answers[text] = (*self.tokenizer.encode(text, add_special_tokens=False).ids, self.stop)
        return self._answers[text]


def tokenizer_config() -> str:
    """`tokenizer_config.json` of the shipped folder."""
    tokens = {
        str(i): dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
        | {"content": text, "special": True}
        for i, text in enumerate((END_OF_TEXT, IM_START, IM_END))
    }  # fmt: skip
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": tokens,
        "eos_token": IM_END,
        "pad_token": END_OF_TEXT,
        "model_max_length": 2048,
        "tokenizer_class": "Qwen2Tokenizer",
    }
    return json.dumps(config, indent=1) + "\n"


def main() -> None:
    """Make the tokenizer from the answers of drawn scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    scenes = list(texts_of(given.scenes).values())[:SCENES]
    answers = {
        text for objects in scenes for said in objects for tasks in said.values() for text in tasks.values()
    }
    make_tokenizer(world_texts(answers)).save(str(given.out))


if __name__ == "__main__":
    main()
