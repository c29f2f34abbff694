"""ONNX Runtime's functions for the registry."""

from __future__ import annotations

from pam_edge.bundle.bundle import Bundle
from pam_edge.runtimes.common.plain_cache import is_plain, plain_decoder
from pam_edge.runtimes.common.session import Decoder, Session
from pam_edge.runtimes.onnxruntime.session import OrtDecoder, OrtSession


def open_session(bundle: Bundle, graph: str, *, threads: int) -> Session:
    """See `Opener.open_session`."""
    return OrtSession(bundle, graph, threads=threads)


def open_decoder(bundle: Bundle, *, threads: int) -> Decoder:
    """See `Opener.open_decoder`. A graph of standard operators, made for TensorRT, runs here too."""
    if is_plain(bundle.graph("decoder")):
        return plain_decoder(bundle, OrtSession(bundle, "decoder", threads=threads))
    return OrtDecoder(bundle, threads=threads)


def check_here(runtime: str) -> None:
    """Nothing to do: importing this module imported the engine."""
