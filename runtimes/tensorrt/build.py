"""`pam-edge build`: a bundle's graphs compiled one after the other, each in a process of its own, resumable.

Knows the order of objects and what is already there; what compiling is, `compile.py` knows.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence

import msgspec

from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, PamEdgeError, UsageError, WontFitError
from pam_edge.runtimes.tensorrt.compile import Order
from pam_edge.runtimes.tensorrt.engine_files import Maker, Record, flavour_of, package, stale

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]
_ERRORS: dict[int, type[PamEdgeError]] = {
    error.exit_code: error for error in (UsageError, EnvironmentProblem, IntegrityError, WontFitError)
}


class _Failed(msgspec.Struct, forbid_unknown_fields=True):
    error: str
    exit_code: int


def maker_here(bundle: Bundle, *, capabilities: Sequence[str] = ()) -> Maker:
    """What engines made here are made on; `capabilities` stand for the card where TensorRT-RTX builds ahead.

    Raises EnvironmentProblem where TensorRT, or a GPU that is needed, is missing.
    """
    flavour = flavour_of(bundle)
    version = str(package(flavour).__version__)
    if capabilities:
        if flavour != "tensorrt_rtx":
            raise UsageError(
                "TensorRT compiles for the GPU it runs on: --capability is for bundles of target rtx"
            )
        return Maker(flavour, version, ",".join(capabilities), "any")
    from pam_edge.runtimes.tensorrt.cuda import device

    here = device()
    return Maker(flavour, version, here.gpu, here.driver)


def build_engines(
    bundle: Bundle,
    *,
    workspace: int = 0,
    capabilities: Sequence[str] = (),
    force: bool = False,
    report: Callable[[str, float | None], None] = lambda name, part: None,
    maker: Maker | None = None,
    run: Run | None = None,
) -> tuple[Record, ...]:
    """Compile every graph whose engine is not there or not for here; the records of those that were made.

    `workspace`: bytes that one graph's tactics may take, 0 for the engine's own limit. An engine that is
    whole and made for here stays, unless `force`. Raises like `maker_here` and `compile_graph`; what was
    finished stays finished.
    """
    maker = maker or maker_here(bundle, capabilities=capabilities)
    made = []
    for graph in bundle.manifest.graphs:
        if not force and stale(bundle, graph.name, maker) is None:
            report(graph.name, None)
            continue
        report(graph.name, 0.0)
        order = Order(str(bundle.folder), graph.name, workspace, tuple(capabilities))
        made.append(_apart(order, maker, run or _run))
        report(graph.name, 1.0)
    return tuple(made)


def _apart(order: Order, maker: Maker, run: Run) -> Record:
    words = [msgspec.json.encode(value).decode() for value in (order, maker)]
    done = run([sys.executable, "-m", "pam_edge.runtimes.tensorrt.compile", *words])
    said = done.stdout.strip().splitlines()
    if done.returncode < 0:
        raise WontFitError(
            f"compiling {order.graph} was killed (signal {-done.returncode}), likely for lack of memory: "
            "close other programs, add swap, or give --workspace less; the same command goes on from there"
        )
    try:
        last = said[-1] if said else ""
        if done.returncode == 0:
            record: Record = msgspec.json.decode(last, type=Record)
            return record
        failed: _Failed = msgspec.json.decode(last, type=_Failed)
    except msgspec.DecodeError as e:
        told = " ".join((done.stderr or done.stdout).split())[-300:]
        raise PamEdgeError(f"compiling {order.graph} failed: {told}") from e
    raise _ERRORS.get(failed.exit_code, PamEdgeError)(f"graph {order.graph}: {failed.error}")


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)
