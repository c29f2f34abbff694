"""The answers about several regions to one task, decoded as one batch.

The visual tokens of each region fill one row of the decoder, so the weights are read once per token for all
rows. Rows are independent: each region gets the answer that it would get alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from pam_edge.api.arguments import Decoding
from pam_edge.core.errors import WontFitError
from pam_edge.core.timing import ms_since
from pam_edge.pipeline.generation import BATCH, salt
from pam_edge.pipeline.pam import Pam
from pam_edge.pipeline.results import Answer, Region
from pam_edge.text.decoding import Finish, generate
from pam_edge.text.tokenization import Task, task_name


def describe_regions(
    pam: Pam, regions: Sequence[Region], task: Task, decoding: Decoding
) -> tuple[list[Answer], dict[str, float]]:
    """Answer one task about several regions, at most `BATCH` of them per batch.

    Returns:
        One answer per region, in their order; and milliseconds for all of them together, as "perceiver",
        "prefill" and "decode".

    Raises:
        WontFitError: region and question leave no room for an answer.
    """
    answers: list[Answer] = []
    spent = {"perceiver": 0.0, "prefill": 0.0, "decode": 0.0}
    for first in range(0, len(regions), BATCH):
        with pam.lock:
            answers += _batch(pam, regions[first : first + BATCH], task, decoding, spent)
    return answers, spent


def _batch(
    pam: Pam, regions: Sequence[Region], task: Task, decoding: Decoding, spent: dict[str, float]
) -> list[Answer]:
    clock = time.perf_counter()
    tokens = [pam.region_tokens(region) for region in regions]
    spent["perceiver"] += ms_since(clock)
    clock = time.perf_counter()
    ids = pam.texts.ids_after(task, lang=decoding.lang)
    decoder = pam.fresh_decoder().branch(len(regions))
    before = decoder.embed(pam.texts.ids_before)
    # The last token of an answer is never fed back, hence one more than there are positions left.
    room = pam.limits.max_length - len(before) - len(tokens[0]) - len(ids) + 1
    if room < 1:
        raise WontFitError(
            f"the question has {len(ids)} tokens after {len(before) + len(tokens[0])} for the region; "
            f"this bundle holds {pam.limits.max_length} in all: shorten it"
        )
    decoder.prefill([np.concatenate([before, row]) for row in tokens])
    logits = decoder.prefill([decoder.embed(ids)] * len(regions))
    spent["prefill"] += ms_since(clock)
    clock = time.perf_counter()
    found: list[list[int]] = [[] for _ in regions]
    ends: list[Finish] = ["length" for _ in regions]
    for token in generate(
        decoder,
        logits,
        samplers=[decoding.sampling.sampler(salt=salt(ids)) for _ in regions],
        limits=[min(decoding.max_tokens, room)] * len(regions),
        stop_ids=pam.limits.stop_ids,
    ):
        if token.id is not None:
            found[token.row].append(token.id)
        ends[token.row] = token.finish or ends[token.row]
    spent["decode"] += ms_since(clock)
    name = task_name(task)
    return [
        Answer(name, decoding.lang, pam.texts.decode(row), tuple(row), end)
        for row, end in zip(found, ends, strict=True)
    ]
