"""The last steps of every export: verification in the bundle's own runtime, then bundle.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Check, Manifest, Verification, write_manifest
from pam_edge.core.errors import EnvironmentProblem
from pam_edge.export.backends.onnxruntime.oldest_engine import oldest_engine
from pam_edge.export.driver.workspace import Workspace
from pam_edge.verify.verify import steps, verify

VERIFY = "verify"
TOKENIZER, GOLDEN = "tokenizer.json", "golden.npz"
REST = "rest"  # the step that writes these two
Report = Callable[
    [str, float | None], None
]  # a graph or VERIFY, and how much of it is done; None: done before


def finish(
    work: Workspace,
    manifest: Manifest,
    report: Report,
    *,
    also: Callable[[], Sequence[Check]] = tuple,
    rehearse: Callable[[Bundle], Verification | None] = lambda bundle: None,
) -> Bundle:
    """Verify what lies in the folder, write its manifest with the result, and let go of the folder.

    Numbers that are off are in the verification, not raised; it is None where the engine is not on this
    machine, and then `rehearse` is asked. `also` gives checks that only an export can make; they stand first.
    """
    report(VERIFY, 0.0)
    bundle = Bundle(work.folder, manifest)
    checked = _verified(bundle, report)
    rehearsed = rehearse(bundle) if checked is None else None
    if (found := checked or rehearsed) is not None:
        found = msgspec.structs.replace(found, checks=(*also(), *found.checks))
    report(VERIFY, 1.0)
    manifest = msgspec.structs.replace(
        manifest,
        verification=None if checked is None else found,
        rehearsal=msgspec.UNSET if rehearsed is None or found is None else found,
        oldest_engine=oldest_engine(bundle),
    )
    manifest = write_manifest(work.folder, manifest)
    work.close()
    return Bundle(work.folder, manifest)


def _verified(bundle: Bundle, report: Report) -> Verification | None:
    count, names = len(steps(bundle)), list[str]()

    def progress(name: str) -> None:
        report(VERIFY, len(names) / count)
        names.append(name)

    try:
        return verify(bundle, progress=progress)
    except EnvironmentProblem:  # no such engine on this machine: `pam-edge verify` does it on the device
        return None
