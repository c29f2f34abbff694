"""A quantized bundle against its float reference: what it loses, and which graph loses it.

Each graph runs on the inputs that the reference recorded, so that its own loss alone counts; then the whole
chain runs, from picture to region tokens and from click to text. What is off names its graph; where only the
chain is off, no single graph is to blame. What the figures mean is in losses.py; their limits are in the
golden file. Knows no scheme and no device.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pam_edge.bundle import Bundle, Check
from pam_edge.golden import HUGE, Array, Golden, Losses, thinned
from pam_edge.losses import (
    clear_tokens,
    clearly,
    edits,
    first_difference,
    iou_loss,
    logit_noise,
    noise,
    token_loss,
)
from pam_edge.replay import ANSWER, Ran, Tell, answer, replay, teacher_forced

_TOKENS = ("region_tokens", "frame_tokens")


def losses_of(
    bundle: Bundle, golden: Golden, losses: Losses, *, threads: int, progress: Tell
) -> Iterator[Check]:
    """Every graph alone, then the chain. Raises IntegrityError where golden file and bundle do not fit."""
    alone, chained = _Worst(), _Worst()
    for ran in replay(bundle, golden, threads=threads, progress=progress):
        if ran.alone is not None:
            alone.take(ran, ran.alone, golden)
        chained.take(ran, ran.chained, golden)
    yield from alone.checks(losses)
    progress("decoder")
    yield from _decoder(bundle, golden, losses, threads=threads)
    progress(ANSWER)
    yield from chained.chain(losses)
    yield from _answer(bundle, golden, losses, threads=threads)


def check(graph: str, measure: str, worst: float, limit: float) -> Check:
    """A line of the verification table. `limit` is what `worst` must not pass."""
    worst = float(f"{min(worst, HUGE):.3g}")  # more digits would only say how threads were scheduled
    return Check(graph=graph, measure=measure, worst=worst, limit=limit, ok=worst <= limit)


class _Worst:
    """The worst case of every output's losses."""

    def __init__(self) -> None:
        self.noise: dict[tuple[str, str], float] = {}
        self.masks: float | None = None
        self.tokens: dict[str, float] = {}

    def take(self, ran: Ran, outputs: dict[str, Array], golden: Golden) -> None:
        for output, value in outputs.items():
            key = ran.entry(output)
            at, lost = (ran.graph, output), noise(thinned(value, golden.stride(key)), golden.kept(key))
            self.noise[at] = max(self.noise.get(at, 0.0), lost)
            whole = golden.whole(key, value.shape)
            if whole is None:
                continue
            if output == "masks":
                self.masks = max(self.masks or 0.0, iou_loss(value, whole))
            if output in _TOKENS:
                self.tokens[ran.graph] = max(self.tokens.get(ran.graph, 0.0), token_loss(value, whole))

    def checks(self, losses: Losses) -> Iterator[Check]:
        for (graph, output), lost in self.noise.items():
            yield check(graph, f"{output}: noise", lost, losses.tensors)
            if output == "masks" and self.masks is not None:
                yield check(graph, "masks: 1 - IoU", self.masks, losses.masks)
            if output in _TOKENS and graph in self.tokens:
                yield check(graph, f"{output}: 1 - cosine of the worst", self.tokens[graph], losses.tokens)

    def chain(self, losses: Losses) -> Iterator[Check]:
        if self.masks is not None:
            yield check(ANSWER, "masks: 1 - IoU", self.masks, losses.chain * losses.masks)
        for (graph, output), lost in self.noise.items():
            if graph in self.tokens and output in _TOKENS:
                yield check(ANSWER, f"{output}: noise", lost, losses.chain * losses.tensors)


def _decoder(bundle: Bundle, golden: Golden, losses: Losses, *, threads: int) -> Iterator[Check]:
    lost, clear, differ = 0.0, 0, 0
    for step in teacher_forced(bundle, golden, threads=threads):
        lost = max(lost, logit_noise(step.sampled, step.wanted))
        if len(step.top) > 1 and clearly(_margin(step.top, step.wanted), losses.logits):
            clear += 1
            differ += int(step.logits.argmax()) != step.best
    yield check("decoder", "logits: noise", lost, losses.logits)
    yield check("decoder", f"leading tokens: how many differ, of {clear} clear ones", differ, 0)


def _margin(top: Array, row: Array) -> float:
    """How far the best logit lies above the second, in standard deviations of the row."""
    return float(top[0] - top[1]) / max(float(np.std(row[: -len(top)])), 1e-9)


def _answer(bundle: Bundle, golden: Golden, losses: Losses, *, threads: int) -> Iterator[Check]:
    """How far the greedy answer departs, where a whole one was recorded.

    Answers part for good where two tokens nearly tie; up to there they must be the same. How much of the
    whole is edited says something of trained weights alone.
    """
    told = golden.meta.told
    if told is None:
        return
    found = answer(bundle, golden, told, threads=threads)
    wanted = told.token_ids
    clear = clear_tokens(told.margins, losses.chain * losses.logits)
    first = first_difference(found, wanted)
    yield check(ANSWER, f"caption: tokens missed of the first {clear}, clear ones", max(0, clear - first), 0)
    if bundle.manifest.weights.kind == "files":
        drift = edits(found, wanted) / max(1, len(wanted))
        yield check(ANSWER, f"caption: part edited, of {len(wanted)} tokens", drift, losses.caption)
