"""Runs the cases of a golden file through a bundle's graphs, for `verify` and for the quality gate.

Graphs run as a chain: each gets the outputs of the ones before it, as in use. Where the golden file keeps
whole tensors, each graph also runs on the reference's own inputs, which isolates its own error. Knows graphs
by their names and signatures; no limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.golden import Golden, RecordedAnswer
from pam_edge.bundle.graph_io import slots
from pam_edge.bundle.manifest import Graph
from pam_edge.core.errors import IntegrityError, QualityError, UsageError
from pam_edge.image.preprocess import Prompt, normalized
from pam_edge.pipeline.pam import load
from pam_edge.runtimes.common.registry import open_decoder, open_session
from pam_edge.video.memory_bank import remembered_case

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Progress = Callable[[str], None]
ANSWER = "answer"  # the name under which the whole chain's checks stand
CHAIN = ("image_encoder", "mask_decoder", "perceiver")
MEMORIES = "memory_attention"
VIDEO = ("memory_encoder", MEMORIES, "perceiver_frame")  # which a bundle for pictures alone lacks


@dataclass(frozen=True)
class Ran:
    """A graph's outputs for one case (`""` for the image encoder)."""

    graph: str
    case: str
    fed: dict[str, Array]  # along the chain
    chained: dict[str, Array]
    alone: dict[str, Array] | None  # on the reference's inputs; None where it does not keep them whole

    def entry(self, output: str) -> str:
        """The name of an output's entry in the golden file."""
        return f"{self.graph}/{self.case}/{output}" if self.case else f"{self.graph}/{output}"


def replay(bundle: Bundle, golden: Golden, *, threads: int, progress: Progress) -> Iterator[Ran]:
    """Every stateless graph on every case, one graph in memory at a time. `progress` is told its name first.

    Raises IntegrityError where bundle and golden file do not fit each other.
    """
    size = bundle.manifest.variant.vision.image_size
    image = {"image": normalized(golden.array("picture", np.uint8, size, size, 3))}
    chained: dict[str, dict[str, Array]] = {"": dict(image)}
    reference: dict[str, dict[str, Array]] = {"": dict(image)}
    held = {graph.name for graph in bundle.manifest.graphs}
    for name in (*CHAIN, *(n for n in VIDEO if n in held)):
        progress(name)
        graph = bundle.graph(name)
        if name == "mask_decoder":
            for known in (chained, reference):
                seen = known.pop("")
                known |= {case: {**seen, **_prompt(graph, golden, case)} for case in golden.meta.cases}
        session = open_session(bundle, name, threads=threads)
        for case, values in chained.items():
            fed = _feeds(graph, values)
            outputs = session.run(fed)
            alone: dict[str, Array] | None = outputs
            if name != CHAIN[0]:
                alone = session.run(_feeds(graph, reference[case])) if _has(graph, reference[case]) else None
            ran = Ran(name, case, fed, outputs, alone)
            yield ran
            values |= outputs
            for spec in graph.outputs:
                whole = golden.whole(ran.entry(spec.name), spec.axes)
                if whole is not None:
                    reference[case][spec.name] = whole
        del session  # its weights, before the next one's


def _has(graph: Graph, values: Mapping[str, Array]) -> bool:
    """Whether the values hold all that a graph is fed."""
    return not _missing(graph, values)


def _feeds(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    if missing := _missing(graph, values):
        raise IntegrityError(
            f"graph {graph.name} wants {', '.join(missing)}, unknown to this version of pam-edge"
        )
    if graph.name == MEMORIES:
        # What the case has given so far, as memories; empty slots where their number is fixed.
        fixed = slots(graph, "memory"), slots(graph, "pointers")
        case = remembered_case(values["memory"], values["object_pointer"], slots=fixed)
        values = {**values, **case}
    return {spec.name: np.ascontiguousarray(values[spec.name], dtype=spec.dtype) for spec in graph.inputs}


def _missing(graph: Graph, values: Mapping[str, Array]) -> list[str]:
    wanted = [spec.name for spec in graph.inputs]
    if graph.name == MEMORIES:
        wanted = ["image_embed", "memory", "object_pointer"]
    return [name for name in wanted if name not in values]


def _prompt(graph: Graph, golden: Golden, case: str) -> dict[str, Array]:
    """A case's inputs of the mask decoder; empty slots (label -2) where its number of points is fixed."""
    coords = golden.array(f"{case}/point_coords", np.float32, 1, None, 2)
    labels = golden.array(f"{case}/point_labels", np.float32, 1, coords.shape[1])
    spare = max(0, (slots(graph, "point_coords") or 0) - coords.shape[1])
    mask = np.zeros([n if isinstance(n, int) else 1 for n in graph.input("mask_prompt").axes], np.float32)
    given = f"{case}/mask_prompt" in golden
    return {
        "point_coords": np.pad(coords, ((0, 0), (0, spare), (0, 0))),
        "point_labels": np.pad(labels, ((0, 0), (0, spare)), constant_values=-2),
        "mask_prompt": golden.array(f"{case}/mask_prompt", np.float32, *mask.shape) if given else mask,
        "has_mask": np.full(1, float(given), np.float32),
        "no_memory": np.ones(1, np.float32),
        "prompted": np.ones(1, np.float32),
    }


@dataclass(frozen=True)
class Step:
    """The decoder after the prompt, or after one more of the reference's tokens."""

    logits: Floats  # [V]
    sampled: Floats  # the same logits at the places that the reference keeps
    wanted: Floats  # the reference's, there
    top: Floats  # the reference's best logits, best first
    best: int  # the token of the first


def teacher_forced(bundle: Bundle, golden: Golden, *, threads: int) -> Iterator[Step]:
    """A prompt, then the reference's own tokens, whatever ours would have been, so that every step compares.

    Raises IntegrityError where the golden file contradicts the bundle.
    """
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
    stride = golden.stride("decoder/logits")
    decoder = open_decoder(bundle, threads=threads)
    logits = decoder.prefill([embeds])[0]
    for i, (row, ids, top) in enumerate(zip(rows, best, tops, strict=True)):
        if i:
            logits = decoder.step([int(tokens[i - 1])])[0]
        sampled = np.concatenate([logits[::stride], logits[ids]])
        yield Step(logits, sampled, np.concatenate([row, top]), top, int(ids[0]))


def answer(bundle: Bundle, golden: Golden, recorded: RecordedAnswer, *, threads: int) -> tuple[int, ...]:
    """The told answer's question on the very path that `run` takes: click to tokens, as many as were told.

    Empty where logits are no numbers. Raises IntegrityError where it tells of what cannot be asked.
    """
    picture = golden.array("picture", np.uint8, None, None, 3)
    pam = load(bundle, threads=threads)
    try:
        prompt = Prompt(points=((*recorded.point, 1),))
        pam.check_prompt(prompt, picture.shape[:2])
        pam.texts.ids_after(recorded.task, lang=recorded.lang)
    except UsageError as e:
        raise IntegrityError(
            f"the golden file tells of what cannot be asked ({e}); export the bundle again"
        ) from e
    try:
        wanted = max(1, len(recorded.token_ids))
        _, (given,) = pam.ask(picture, prompt, [recorded.task], lang=recorded.lang, max_tokens=wanted)
    except QualityError:  # logits that are no numbers: no answer at all
        return ()
    return given.token_ids
