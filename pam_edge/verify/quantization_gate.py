"""The quality gate of a quantized bundle: its loss against the float reference, and which graph causes it.

Each graph runs on the inputs that the reference recorded, which isolates its own loss; then the whole chain
runs, from picture to region tokens and from prompt to text. A check that fails names its graph; if only the
chain fails, no single graph is the cause. `error_metrics.py` defines the figures; their limits are in the
golden file. Knows no scheme and no device.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.golden import HUGE, Array, Golden, Losses, thinned
from pam_edge.bundle.manifest import Check
from pam_edge.verify.error_metrics import (
    clear_tokens,
    clearly,
    edits,
    first_difference,
    iou_loss,
    logit_noise,
    noise,
    token_loss,
)
from pam_edge.verify.golden_runner import ANSWER, Progress, Ran, answer, replay, teacher_forced

# Untrained layers multiply noise, and their tokens nearly tie: an export holds their weights to a limit
# instead (weight_check.py). Logits that have nothing to do with each other differ by 1.4; beyond this they
# are no logits of such a model at all. Untrained masks are near zero everywhere: they may lose more as well.
UNTRAINED = 2.0
MASKS = 3.0  # times as much: of untrained masks, and of noise on any mask
_TOKENS = ("region_tokens", "frame_tokens")


def losses_of(
    bundle: Bundle, golden: Golden, losses: Losses, *, threads: int, progress: Progress
) -> Iterator[Check]:
    """Every graph alone, then the chain. Raises IntegrityError where golden file and bundle do not fit."""
    if _untrained(bundle):
        losses = msgspec.structs.replace(losses, masks=min(0.9, MASKS * losses.masks))
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
            # What a mask says is where it is above zero; how far matters less.
            times = MASKS if output == "masks" else 1
            yield check(graph, f"{output}: noise", lost, times * losses.tensors)
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
    if _untrained(bundle):
        yield check("decoder", "logits: noise, untrained", lost, UNTRAINED)
        return
    yield check("decoder", "logits: noise", lost, losses.logits)
    yield check("decoder", f"leading tokens: how many differ, of {clear} clear ones", differ, 0)


def _untrained(bundle: Bundle) -> bool:
    return bundle.manifest.weights.kind == "random"


def _margin(top: Array, row: Array) -> float:
    """How far the best logit lies above the second, in standard deviations of the row."""
    return float(top[0] - top[1]) / max(float(np.std(row[: -len(top)])), 1e-9)


def _answer(bundle: Bundle, golden: Golden, losses: Losses, *, threads: int) -> Iterator[Check]:
    """How far the greedy answer departs, where a whole one of trained weights was recorded.

    Answers part for good where two tokens nearly tie; up to there they must be the same. What is edited of
    the whole is told, and limited only by far: a short answer with ties may change in most of its tokens.
    """
    recorded = golden.meta.answer
    if recorded is None or _untrained(bundle):
        return
    found, wanted = answer(bundle, golden, recorded, threads=threads), recorded.token_ids
    clear = clear_tokens(recorded.margins, losses.chain * losses.logits)
    missed = max(0, clear - first_difference(found, wanted))
    yield check(ANSWER, f"caption: tokens missed of the first {clear}, clear ones", missed, 0)
    drift = edits(found, wanted) / max(1, len(wanted))
    yield check(ANSWER, f"caption: part edited, of {len(wanted)} tokens", drift, losses.caption)
