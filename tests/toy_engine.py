"""A toy engine's runtime, as CONTRIBUTING describes one: pickled PyTorch modules, run as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pam_edge.bundle.bundle import Bundle
from pam_edge.runtimes.common.embedding import TokenTable
from pam_edge.runtimes.common.kv_decoder import KvDecoder
from pam_edge.runtimes.common.session import Array, Decoder, Session


class ToySession:
    """`Session` of a stateless graph."""

    def __init__(self, bundle: Bundle, graph: str) -> None:
        self._graph = bundle.graph(graph)
        self._module = torch.load(bundle.path(self._graph.files[0]), weights_only=False)

    @torch.inference_mode()
    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        found = self._module(*(torch.from_numpy(feeds[spec.name]) for spec in self._graph.inputs))
        values = (found,) if isinstance(found, Tensor) else found
        return {spec.name: value.numpy() for spec, value in zip(self._graph.outputs, values, strict=True)}


class ToyLanguage:
    """`Session` of the decoder graph, one row a call."""

    def __init__(self, bundle: Bundle) -> None:
        self._language: Any = torch.load(bundle.path(bundle.graph("decoder").files[0]), weights_only=False)

    @torch.inference_mode()
    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        past = {name: torch.from_numpy(a.copy()) for name, a in feeds.items() if name.startswith("past_")}
        layers = range(len(past) // 2)
        cache = tuple((past[f"past_key.{i}"], past[f"past_value.{i}"]) for i in layers)
        logits, grown = self._language(torch.from_numpy(feeds["embeds"]), cache)
        outputs = {"logits": logits.numpy()}
        for i, (key, value) in enumerate(grown):
            outputs |= {f"present_key.{i}": key.numpy(), f"present_value.{i}": value.numpy()}
        return outputs


def open_session(bundle: Bundle, graph: str, *, threads: int) -> Session:
    return ToySession(bundle, graph)


def open_decoder(bundle: Bundle, *, threads: int) -> Decoder:
    return KvDecoder(ToyLanguage(bundle), bundle.manifest.variant.language, TokenTable.open(bundle))


def check_here(runtime: str) -> None:
    """Always here."""
