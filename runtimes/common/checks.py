"""Checks of arguments to sessions and decoders, the same for every engine.

Engines answer a wrong shape with messages of their own, or with wrong numbers; these name the input and the
expected shape. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pam_edge.bundle.config import LanguageConfig
from pam_edge.bundle.manifest import Graph, TensorSpec
from pam_edge.core.errors import UsageError, WontFitError

Floats = npt.NDArray[np.float32]


def check_feeds(graph: Graph, feeds: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise UsageError unless `feeds` are the graph's inputs: names, dtypes, extents, free axes agreeing."""
    wanted = {spec.name for spec in graph.inputs}
    for what, names in (("lacks", wanted - feeds.keys()), ("has no", feeds.keys() - wanted)):
        if names:
            subject = "the call" if what == "lacks" else f"graph {graph.name}"
            raise UsageError(
                f"{subject} {what} input {', '.join(sorted(names))}; "
                f"{graph.name} takes {', '.join(spec.name for spec in graph.inputs)}"
            )
    free: dict[str, int] = {}
    for spec in graph.inputs:
        array = feeds[spec.name]
        fits = array.dtype == np.dtype(spec.dtype) and array.ndim == len(spec.axes)
        if not fits or any(
            extent != (free.setdefault(axis, extent) if isinstance(axis, str) else axis)
            for axis, extent in zip(spec.axes, array.shape, strict=True)
        ):
            known = f", where {', '.join(f'{k} = {v}' for k, v in free.items())}" if free else ""
            raise UsageError(
                f"{graph.name}: input {_describe(spec)}{known}; got {array.dtype} {list(array.shape)}"
            )


def check_embeds(embeds: Sequence[Floats], lengths: Sequence[int], language: LanguageConfig) -> None:
    """Each row gets float32 [T >= 1, hidden], or UsageError; WontFitError where one grows too long."""
    if len(embeds) != len(lengths):
        raise UsageError(f"{len(embeds)} inputs for {len(lengths)} rows; pass one per row")
    for i, array in enumerate(embeds):
        if array.ndim != 2 or array.shape[1] != language.hidden_size or array.shape[0] < 1:
            raise UsageError(
                f"row {i}: embeddings must be [T >= 1, {language.hidden_size}], got {list(array.shape)}"
            )
        if array.dtype != np.float32:
            raise UsageError(f"row {i}: embeddings must be float32, got {array.dtype}")
    check_room([n + len(array) for n, array in zip(lengths, embeds, strict=True)], language)


def check_tokens(tokens: Sequence[int], count: int) -> None:
    """Raise UsageError unless there is one token for each of `count` rows."""
    if len(tokens) != count:
        raise UsageError(f"{len(tokens)} tokens for {count} rows; pass one per row")


def check_room(lengths: Sequence[int], language: LanguageConfig) -> None:
    """Raise WontFitError where a row would become longer than this model's cache may ever be."""
    longest = max(lengths)
    if longest > language.max_length:
        raise WontFitError(
            f"{longest} positions asked for where the model reads at most {language.max_length}; "
            "shorten the question, ask for fewer new tokens, or use fewer frames"
        )


def check_keep(rows: Sequence[int], count: int) -> None:
    """Raise UsageError unless `rows` are one or more different rows out of `count`."""
    if not rows or len(set(rows)) != len(rows) or min(rows) < 0 or max(rows) >= count:
        raise UsageError(f"cannot keep rows {list(rows)} of {count}: name at least one, each once, from 0 on")


def check_branch(rows: int, count: int) -> None:
    """Raise UsageError unless a decoder of `count` rows can branch into `rows`."""
    if count != 1:
        raise UsageError(f"only a decoder with a single row can branch; this one has {count}")
    if rows < 1:
        raise UsageError(f"cannot branch into {rows} rows; ask for at least one")


def check_length(length: int) -> None:
    """Raise UsageError for a length that no cache can have."""
    if length < 0:
        raise UsageError(f"cannot rewind to {length}; lengths start at 0")


def _describe(spec: TensorSpec) -> str:
    return f"{spec.name} must be {spec.dtype} [{', '.join(str(axis) for axis in spec.axes)}]"
