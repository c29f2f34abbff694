"""Verification of a bundle against its golden numbers, in its own runtime: `verify`, and the end of `export`.

Float numbers are compared one by one. Graphs are fed as in use, each with the outputs of the one before, so
the first graph that fails is the one to look at; only the decoder has recorded inputs. Quantized bundles go
through `quantization_gate.py`. Limits are in the golden file. Knows no torch and no device.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.golden import Golden, Limits, relative_error
from pam_edge.bundle.manifest import Check, Verification
from pam_edge.core.cpu_kind import cpu_kind
from pam_edge.core.errors import QualityError
from pam_edge.core.system_info import describe_host
from pam_edge.runtimes.common.registry import engine_version
from pam_edge.verify.golden_runner import ANSWER, Progress, answer, replay, teacher_forced
from pam_edge.verify.quantization_gate import check, losses_of

_OF_LARGEST = "{}: largest error, of its largest value"


def verify(bundle: Bundle, *, threads: int = 0, progress: Progress = lambda _: None) -> Verification:
    """Run every graph and compare. `progress` is told each graph's name before it runs.

    Numbers that are off are checks that are not ok, not an error. Raises EnvironmentProblem where the
    bundle's engine is not here, IntegrityError where a file is not what bundle.json says.
    """
    golden = Golden(bundle.path(bundle.manifest.golden))
    match golden.meta.bounds:
        case Limits() as limits:
            checks = tuple(_exact(bundle, golden, limits, threads=threads, progress=progress))
        case losses:
            checks = tuple(losses_of(bundle, golden, losses, threads=threads, progress=progress))
    runtime = bundle.manifest.runtime
    return Verification(
        runtime=runtime,
        host=describe_host(),
        checks=checks,
        engine=engine_version(runtime) or "",
        cpu=cpu_kind() or "",
    )


def require_ok(*verifications: Verification | msgspec.UnsetType | None) -> None:
    """Raise QualityError naming the graphs that are off, the first of which is the one to look at."""
    for verification in verifications:
        if not isinstance(verification, Verification) or verification.ok:
            continue
        off = dict.fromkeys(check.graph for check in verification.checks if not check.ok)
        raise QualityError(
            f"numbers are off in {', '.join(off)}: do not trust this bundle's answers here; "
            "export it again, and report it where that does not help"
        )


def steps(bundle: Bundle) -> tuple[str, ...]:
    """What `verify` goes through: every graph, then the whole chain."""
    return (*(graph.name for graph in bundle.manifest.graphs), ANSWER)


def _exact(
    bundle: Bundle, golden: Golden, limits: Limits, *, threads: int, progress: Progress
) -> Iterator[Check]:
    worst: dict[tuple[str, str], float] = {}
    for ran in replay(bundle, golden, threads=threads, progress=progress):
        for output, value in ran.chained.items():
            at = (ran.graph, output)
            worst[at] = max(worst.get(at, 0.0), golden.error(ran.entry(output), value))
    for (graph, output), error in worst.items():
        limit = limits.masks if output == "masks" else limits.tensors
        yield check(graph, _OF_LARGEST.format(output), error, limit)
    yield from _decoder(bundle, golden, limits.logits, threads=threads, progress=progress)
    yield from _answer(bundle, golden, threads=threads, progress=progress)


def _decoder(
    bundle: Bundle, golden: Golden, limit: float, *, threads: int, progress: Progress
) -> Iterator[Check]:
    progress("decoder")
    errors, differ = [], 0
    for step in teacher_forced(bundle, golden, threads=threads):
        errors.append(relative_error(step.sampled, step.wanted))
        close = 2 * limit * max(1.0, float(abs(step.wanted).max()))
        tie = len(step.top) > 1 and step.top[0] - step.top[1] <= close  # either may win
        differ += not tie and int(step.logits.argmax()) != step.best
    yield check("decoder", _OF_LARGEST.format("logits"), max(errors), limit)
    yield check("decoder", f"greedy tokens: how many differ, of {len(errors)}", differ, 0)


def _answer(bundle: Bundle, golden: Golden, *, threads: int, progress: Progress) -> Iterator[Check]:
    """Only where a whole answer was recorded."""
    recorded = golden.meta.answer
    if recorded is None:
        return
    progress(ANSWER)
    found, wanted = answer(bundle, golden, recorded, threads=threads), recorded.token_ids
    differ = sum(a != b for a, b in zip(found, wanted, strict=False)) + abs(len(found) - len(wanted))
    yield check(ANSWER, f"tokens from click to text: how many differ, of {len(wanted)}", differ, 0)
