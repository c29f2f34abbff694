"""A decoder graph with its cache in plain buffers, as a session with the signature that `KvDecoder` expects.

Such a graph reads `past_*` of any capacity, of which the first `position` entries count, and returns this
call's entries as `new_*`. Simple and slow, for any engine: every call copies the cache.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Graph
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.kv_decoder import KvDecoder
from pam_edge.runtimes.common.session import Array, Session


def is_plain(graph: Graph) -> bool:
    """Whether a decoder's cache is in plain buffers."""
    return any(spec.name == "position" for spec in graph.inputs)


def plain_decoder(bundle: Bundle, session: Session) -> KvDecoder:
    """A decoder over a session of such a graph, with one empty row."""
    adapter = PlainCacheSession(session, bundle.graph("decoder"))
    return KvDecoder(adapter, bundle.manifest.variant.language, TokenTable.open(bundle))


class PlainCacheSession:
    """`Session` with `seqlens_k`, `total_sequence_length` and `present_*`, one row a call."""

    def __init__(self, session: Session, graph: Graph) -> None:
        self._session = session
        self._kinds = {spec.name: np.dtype(spec.dtype) for spec in graph.inputs}

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One call of the decoder graph; the cache has at least one position, which may not count."""
        held = int(feeds["total_sequence_length"]) - feeds["embeds"].shape[1]
        past = {name: array for name, array in feeds.items() if name.startswith("past_")}
        given = {
            name: np.ascontiguousarray(array if held else np.zeros_like(array, shape=_one(array)))
            for name, array in past.items()
        }
        own = {name: array.astype(self._kinds[name], copy=False) for name, array in given.items()}
        outputs = self._session.run(
            {"embeds": feeds["embeds"], "position": np.array([held], np.int64), **own}
        )
        present = {
            name.replace("past", "present"): np.concatenate(
                [
                    array.astype(outputs[name.replace("past", "new")].dtype),
                    outputs[name.replace("past", "new")],
                ],
                2,
            )
            for name, array in past.items()
        }
        return {"logits": outputs["logits"], **present}


def _one(array: Array) -> tuple[int, ...]:
    return (*array.shape[:2], 1, array.shape[3])
