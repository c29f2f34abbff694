"""Tables of targets for `pam-edge targets`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pam_edge.render.tables import columns, size
from pam_edge.targets import Target


def targets_table(targets: Sequence[Target]) -> str:
    """One row a target, its default scheme first."""
    rows = [("target", "device", "runtime", "schemes", "model", "memory")]
    rows += [
        (
            t.name,
            t.title,
            t.runtime,
            ", ".join(t.schemes),
            t.variant,
            size(t.memory.bytes) if t.memory else "-",
        )
        for t in targets
    ]
    return columns(rows)


def target_details(target: Target) -> str:
    """All that is known of one target."""
    memory = target.memory
    rows = [
        ("target", ", ".join((target.name, *target.aliases))),
        ("device", target.title),
        ("runtime", target.runtime),
        ("largest model", target.variant),
        (
            "memory",
            f"{size(memory.bytes)} for one process: {memory.source}" if memory else "the machine's own",
        ),
        ("note", target.note),
    ]
    limits = [("scheme", "its numbers may differ by")]
    for fit in target.fits:
        bounds = ", ".join(
            f"{name} {limit:g}" for name, limit in msgspec.structs.asdict(fit.tolerance).items()
        )
        limits.append((f"{fit.scheme} (default)" if fit == target.fits[0] else fit.scheme, bounds))
    return f"{columns(rows)}\n\n{columns(limits)}"
