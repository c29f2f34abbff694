"""A bundle against its own golden numbers, in its own runtime: what `verify` and the end of an export do.

Graphs are fed as in use, each with what the one before it gave, so the first graph that is off is the one to
look at; only the decoder has inputs of its own. Knows no torch, no device and no limits: those are in the
bundle's golden file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pam_edge.bundle import Bundle, Check, Graph, Verification
from pam_edge.errors import IntegrityError, QualityError, UsageError
from pam_edge.golden import HUGE, Golden, relative_error
from pam_edge.host import describe_host
from pam_edge.pam import load
from pam_edge.preprocess import Prompt, normalized
from pam_edge.runtimes import open_decoder, open_session

Array = npt.NDArray[Any]
Tell = Callable[[str], None]
ANSWER = "answer"  # the name under which the whole chain's check stands
_OF_LARGEST = "{}: largest error, of its largest value"


def verify(bundle: Bundle, *, threads: int = 0, progress: Tell = lambda _: None) -> Verification:
    """Run every graph and compare. `progress` is told each graph's name before it runs.

    Numbers that are off are checks that are not ok, not an error. Raises EnvironmentProblem where the
    bundle's engine is not here, IntegrityError where a file is not what bundle.json says.
    """
    golden = Golden(bundle.path(bundle.manifest.golden))
    checks = (
        *_stateless(bundle, golden, threads=threads, progress=progress),
        *_decoder(bundle, golden, threads=threads, progress=progress),
        *_answer(bundle, golden, threads=threads, progress=progress),
    )
    return Verification(runtime=bundle.manifest.runtime, host=describe_host(), checks=checks)


def require_ok(verification: Verification | None) -> None:
    """Raise QualityError naming the graphs that are off, the first of which is the one to look at."""
    if verification is not None and not verification.ok:
        off = dict.fromkeys(check.graph for check in verification.checks if not check.ok)
        raise QualityError(
            f"numbers are off in {', '.join(off)}: do not trust this bundle's answers here; "
            "export it again, and report it where that does not help"
        )


def steps(bundle: Bundle) -> tuple[str, ...]:
    """What `verify` goes through: every graph, then the whole chain."""
    return (*(graph.name for graph in bundle.manifest.graphs), ANSWER)


def _stateless(bundle: Bundle, golden: Golden, *, threads: int, progress: Tell) -> Iterator[Check]:
    """The chain from the picture to the region tokens, for every case of the golden file."""
    size = bundle.manifest.variant.vision.image_size
    picture = golden.array("picture", np.uint8, size, size, 3)
    known: dict[str, dict[str, Array]] = {"": {"image": normalized(picture)}}
    for name in ("image_encoder", "mask_decoder", "perceiver"):
        progress(name)
        graph = bundle.graph(name)
        if name == "mask_decoder":
            known = {case: {**known[""], **_prompt(graph, golden, case)} for case in golden.meta.cases}
        session = open_session(bundle, name, threads=threads)
        worst: dict[str, float] = {}
        for case, values in known.items():
            outputs = session.run(_feeds(graph, values))
            for output, value in outputs.items():
                key = f"{name}/{case}/{output}" if case else f"{name}/{output}"
                worst[output] = max(worst.get(output, 0.0), golden.error(key, value))
            known[case] = {**values, **outputs}
        del session  # its weights, before the next one's
        for output, error in worst.items():
            limit = golden.meta.limits.masks if output == "masks" else golden.meta.limits.tensors
            yield _check(name, _OF_LARGEST.format(output), error, limit)


def _feeds(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    missing = [spec.name for spec in graph.inputs if spec.name not in values]
    if missing:
        raise IntegrityError(
            f"graph {graph.name} wants {', '.join(missing)}, unknown to this version of pam-edge"
        )
    return {spec.name: np.ascontiguousarray(values[spec.name], dtype=spec.dtype) for spec in graph.inputs}


def _prompt(graph: Graph, golden: Golden, case: str) -> dict[str, Array]:
    """A case's inputs of the mask decoder; empty slots (label -2) where its number of points is fixed."""
    coords = golden.array(f"{case}/point_coords", np.float32, 1, None, 2)
    labels = golden.array(f"{case}/point_labels", np.float32, 1, coords.shape[1])
    slots = graph.input("point_coords").axes[1]
    spare = max(0, slots - coords.shape[1]) if isinstance(slots, int) else 0
    mask = np.zeros([n if isinstance(n, int) else 1 for n in graph.input("mask_prompt").axes], np.float32)
    given = f"{case}/mask_prompt" in golden
    return {
        "point_coords": np.pad(coords, ((0, 0), (0, spare), (0, 0))),
        "point_labels": np.pad(labels, ((0, 0), (0, spare)), constant_values=-2),
        "mask_prompt": golden.array(f"{case}/mask_prompt", np.float32, *mask.shape) if given else mask,
        "has_mask": np.full(1, float(given), np.float32),
        "no_memory": np.ones(1, np.float32),
    }


def _decoder(bundle: Bundle, golden: Golden, *, threads: int, progress: Tell) -> Iterator[Check]:
    """A prompt, then PyTorch's own tokens, whatever ours would have been, so that every step compares."""
    progress("decoder")
    language = bundle.manifest.variant.language
    embeds = golden.array("decoder/embeds", np.float32, None, language.hidden_size)
    tokens = golden.array("decoder/tokens", np.int64, None)
    rows = golden.array("decoder/logits", np.float32, len(tokens) + 1, None)
    best = golden.array("decoder/top_ids", np.int64, len(tokens) + 1, None)
    tops = golden.array("decoder/top", np.float32, *best.shape)
    if best.shape[1] < min(2, language.vocab_size):
        raise IntegrityError(
            "the golden file has no second-best token to tell a tie by; export the bundle again"
        )
    for ids in (tokens, best):
        if ids.min() < 0 or ids.max() >= language.vocab_size:
            raise IntegrityError(
                "the golden file has a token outside the vocabulary; export the bundle again"
            )
    limit, stride = golden.meta.limits.logits, golden.stride("decoder/logits")
    decoder = open_decoder(bundle, threads=threads)
    logits = decoder.prefill([embeds])[0]
    errors, differ = [], 0
    for i, (row, ids, top) in enumerate(zip(rows, best, tops, strict=True)):
        if i:
            logits = decoder.step([int(tokens[i - 1])])[0]
        wanted = np.concatenate([row, top])
        errors.append(relative_error(np.concatenate([logits[::stride], logits[ids]]), wanted))
        close = 2 * limit * max(1.0, float(np.abs(wanted).max()))
        tie = len(top) > 1 and top[0] - top[1] <= close  # either may win
        differ += not tie and int(logits.argmax()) != int(ids[0])
    yield _check("decoder", _OF_LARGEST.format("logits"), max(errors), limit)
    yield _check("decoder", f"greedy tokens: how many differ, of {len(errors)}", differ, 0)


def _answer(bundle: Bundle, golden: Golden, *, threads: int, progress: Tell) -> Iterator[Check]:
    """A click to text on the very path that `run` takes; only where a whole answer was recorded."""
    told = golden.meta.told
    if told is None:
        return
    progress(ANSWER)
    picture, wanted = golden.array("picture", np.uint8, None, None, 3), told.token_ids
    pam = load(bundle, threads=threads)
    try:
        prompt = Prompt(points=((*told.point, 1),))
        pam.check_prompt(prompt, picture.shape[:2])
        pam.texts.ids_after(told.task, lang=told.lang)
    except UsageError as e:
        raise IntegrityError(
            f"the golden file tells of what cannot be asked ({e}); export the bundle again"
        ) from e
    try:
        _, (answer,) = pam.ask(picture, prompt, [told.task], lang=told.lang, max_tokens=max(1, len(wanted)))
        found = answer.token_ids
    except QualityError:  # logits that are no numbers: no answer at all
        found = ()
    differ = sum(a != b for a, b in zip(found, wanted, strict=False)) + abs(len(found) - len(wanted))
    yield _check(ANSWER, f"tokens from click to text: how many differ, of {len(wanted)}", differ, 0)


def _check(graph: str, measure: str, worst: float, limit: float) -> Check:
    worst = float(f"{min(worst, HUGE):.3g}")  # more digits would only say how threads were scheduled
    return Check(graph=graph, measure=measure, worst=worst, limit=limit, ok=worst <= limit)
