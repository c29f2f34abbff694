"""The golden file of a quantized bundle, recorded from a finished float bundle, which is its reference.

A float bundle's verification ties it to PyTorch; a quantized bundle is compared with the float bundle it was
made from, recorded in the same engine. Knows no scheme and no file but the golden one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.golden import Golden, Losses, RecordedAnswer, golden_content
from pam_edge.runtimes.common.registry import open_decoder
from pam_edge.text.tokenization import Texts
from pam_edge.verify.golden_runner import replay, teacher_forced

Array = npt.NDArray[Any]
TOP = 8  # best tokens kept of each step
MAX_ANSWER_TOKENS = 32
_KINDS = ("point_coords", "point_labels", "mask_prompt")


def reference_golden(
    bundle: Bundle,
    losses: Losses,
    *,
    threads: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> bytes:
    """golden.npz of what `bundle` gives to the picture and prompts of its own golden file, held to `losses`.

    A whole answer is recorded where its golden file has one. Raises IntegrityError where bundle and golden
    file do not fit each other.
    """
    golden = Golden(bundle.path(bundle.manifest.golden))
    size = bundle.manifest.variant.vision.image_size
    recorded: dict[str, Array] = {}
    for ran in replay(bundle, golden, threads=threads, progress=progress):
        recorded |= {ran.entry(output): value for output, value in ran.chained.items()}
    progress("decoder")
    rows = [step.logits for step in teacher_forced(bundle, golden, threads=threads)]
    logits = np.stack(rows)
    best = np.argsort(-logits, axis=1, kind="stable")[:, : min(TOP, logits.shape[1])]
    width = bundle.manifest.variant.language.hidden_size
    recorded |= {
        "decoder/embeds": golden.array("decoder/embeds", np.float32, None, width),
        "decoder/tokens": golden.array("decoder/tokens", np.int64, None),
        "decoder/logits": logits,
        "decoder/top_ids": best,
        "decoder/top": np.take_along_axis(logits, best, axis=1),
    }
    return golden_content(
        recorded,
        picture=golden.array("picture", np.uint8, size, size, 3),
        prompts={case: _prompt(golden, case) for case in golden.meta.cases},
        bounds=losses,
        answer=_answer(bundle, golden, recorded, threads=threads),
    )


def _prompt(golden: Golden, case: str) -> dict[str, Array]:
    shapes = {"point_coords": (1, None, 2), "point_labels": (1, None), "mask_prompt": (1, 1, None, None)}
    return {
        kind: golden.array(f"{case}/{kind}", np.float32, *shapes[kind])
        for kind in _KINDS
        if f"{case}/{kind}" in golden
    }


def _answer(
    bundle: Bundle, golden: Golden, recorded: dict[str, Array], *, threads: int
) -> RecordedAnswer | None:
    """The whole greedy answer to the click of the first case, with its margins."""
    answer = golden.meta.answer
    if answer is None:
        return None
    manifest = bundle.manifest
    region = recorded[f"perceiver/{golden.meta.cases[0]}/region_tokens"][0]
    texts = Texts(bundle.path(manifest.tokenizer).read_bytes(), manifest.prompts)
    decoder = open_decoder(bundle, threads=threads)
    before, after = texts.ids_before, texts.ids_after(answer.task, lang=answer.lang)
    logits = decoder.prefill([np.concatenate([decoder.embed(before), region, decoder.embed(after)])])[0]
    tokens: list[int] = []
    margins: list[float] = []
    while len(tokens) < MAX_ANSWER_TOKENS:
        second, best = np.partition(logits, -2)[-2:]
        token = int(logits.argmax())
        if token in manifest.stop_ids:
            break
        tokens.append(token)
        margins.append(round(float(best - second) / max(float(logits.std()), 1e-9), 3))
        logits = decoder.step([token])[0]
    return (
        RecordedAnswer(answer.task, answer.lang, answer.point, tuple(tokens), tuple(margins))
        if tokens
        else None
    )
