"""TensorRT's and TensorRT-RTX's functions for the registry."""

from __future__ import annotations

from pam_edge.bundle.bundle import Bundle
from pam_edge.runtimes.common.session import Decoder, Session


def open_session(bundle: Bundle, graph: str, *, threads: int) -> Session:
    """See `Opener.open_session`."""
    from pam_edge.runtimes.tensorrt.session import TrtSession

    return TrtSession(bundle, graph)


def open_decoder(bundle: Bundle, *, threads: int) -> Decoder:
    """See `Opener.open_decoder`."""
    from pam_edge.runtimes.tensorrt.decoder import TrtDecoder

    return TrtDecoder(bundle)


def check_here(runtime: str) -> None:
    """See `Opener.check_here`."""
    from pam_edge.runtimes.tensorrt.engine_files import package

    package(runtime)
