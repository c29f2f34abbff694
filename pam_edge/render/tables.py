"""Plain text tables: aligned columns, sizes, a bundle's properties, verification results. Prints nothing.

Control characters are removed from text that comes from a file, so that no bundle can control the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.golden import HUGE
from pam_edge.bundle.manifest import Graph, Manifest, TensorSpec, Verification
from pam_edge.pipeline.results import Region
from pam_edge.verify.verified_here import look_up, verdict, warnings


def columns(rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Rows as left-aligned columns two blanks apart; rows may differ in length."""
    widths: list[int] = []
    for row in rows:
        widths += [0] * (len(row) - len(widths))
        widths[: len(row)] = [max(len(cell), w) for cell, w in zip(row, widths, strict=False)]
    lines = (indent + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=False)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def size(count: float) -> str:
    """Bytes in the largest decimal unit that gives at least 1."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} bytes"


def clean(text: str) -> str:
    """Text with every control character shown as an escape."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def clean_lines(text: str) -> str:
    """Like `clean`, but line ends and tabs stay."""
    return "".join(c if c in "\n\t" else clean(c) for c in text)


def verification_table(verification: Verification | None) -> str:
    """Every check: graph, measure, worst, limit, ok or OFF."""
    if verification is None:
        return "not run here"
    rows = [("graph", "measure", "worst", "limit", "")]
    for c in verification.checks:
        worst = "no number" if c.worst >= HUGE else f"{c.worst:.3g}"
        rows.append((c.graph, clean(c.measure), worst, f"{c.limit:.3g}", "ok" if c.ok else "OFF"))
    return columns(rows)


def export_table(manifest: Manifest) -> str:
    """What an export found of its bundle: in its own engine, or that it was not run, and of a rehearsal."""
    rehearsed = manifest.rehearsal
    if manifest.verification is None and not isinstance(rehearsed, Verification):
        return f"{_not_run(manifest)}\n`pam-edge verify` runs them on the device"
    table = verification_table(manifest.verification)
    if not isinstance(rehearsed, Verification):
        return table
    other = f"the same files in {clean(rehearsed.runtime)}:\n{verification_table(rehearsed)}"
    return f"{manifest.runtime}: {table}\n{other}"


def _not_run(manifest: Manifest) -> str:
    """Every graph by name: what nobody ran is not called ok."""
    return columns([(graph.name, "not run here") for graph in manifest.graphs])


def bundle_summary(bundle: Bundle) -> str:
    """What a bundle is, made of what, under which licences, and how its verification went."""
    m = bundle.manifest
    made = "from files" if m.weights.kind == "files" else "RANDOM, untrained: its answers mean nothing"
    source = m.weights.source + (f"@{m.weights.revision}" if m.weights.revision else "")
    rows = [
        ("variant", clean(m.variant.name)),
        ("weights", f"{made} ({clean(source)})"),
        *([("sam2", clean(m.weights.sam2))] if m.weights.sam2 else []),
        ("target", m.target),
        ("runtime", m.runtime),
        ("scheme", m.scheme),
        ("size", f"{size(bundle.total_bytes)} in {len(m.files())} files"),
        (
            "made with",
            ", ".join(f"{clean(name)} {clean(version)}" for name, version in sorted(m.tools.items())),
        ),
    ]
    if m.oldest_engine:
        rows.append(("opens with", f"{m.runtime} {m.oldest_engine} or newer"))
    if found := verdict(look_up(bundle)):
        rows.append(("here", clean(found)))
    parts = [columns(rows), "", "graphs", *(_graph(graph) for graph in m.graphs), "", "licences"]
    licences = [
        (
            clean(part.part),
            clean(part.licence),
            "commercial use allowed" if part.commercial else "NOT COMMERCIAL",
            clean(part.note),
        )
        for part in m.variant.licences
    ]
    parts.append(columns(licences or [("none stated",)], indent="  "))
    verified = m.verification
    if verified is None:
        parts += ["", "verification: not run (try `pam-edge verify`)"]
        if isinstance(m.rehearsal, Verification):
            where = f"{clean(m.rehearsal.runtime)} on {clean(m.rehearsal.host)}"
            outcome = "ok" if m.rehearsal.ok else "FAILED"
            parts += ["", f"rehearsal of the same files: {outcome}, {where}", verification_table(m.rehearsal)]
    else:
        outcome = "ok" if verified.ok else "FAILED"
        engine = f"{verified.runtime} {verified.engine}".strip()
        where = ", ".join(clean(part) for part in (f"{engine} on {verified.host}", verified.cpu) if part)
        parts += ["", f"verification: {outcome}, {where}", verification_table(verified)]
    return "\n".join(parts)


def caveats(bundle: Bundle) -> list[str]:
    """What whoever uses a bundle must not miss: licence, untrained weights, verification failed or not
    made on this kind of CPU.
    """
    m = bundle.manifest
    found = [
        f"{clean(part.part)}: licence {clean(part.licence)}, not for commercial use"
        for part in m.variant.licences
        if not part.commercial
    ]
    if m.weights.kind == "random":
        found.append("this bundle's weights are random and untrained: its answers mean nothing")
    if m.verification is not None and not m.verification.ok:
        found.append("this bundle failed its verification; `pam-edge inspect` shows where")
    return [*found, *warnings(look_up(bundle))]


def region_line(region: Region) -> str:
    """A mask in one line: its share of the picture, its box, how sure the model is."""
    if region.box is None:
        return f"mask: empty, the model sees no object there (object score {region.object_score:.2f})"
    box = ",".join(str(n) for n in region.box)
    return f"mask: {region.mask.mean():.1%} of the picture, box {box}, score {region.score:.2f}"


def _graph(graph: Graph) -> str:
    files = ", ".join(f"{ref.path} {size(ref.bytes)}" for ref in graph.files)
    rows = [("in", *_tensors(graph.inputs)), ("out", *_tensors(graph.outputs))]
    return "\n".join(
        [f"  {graph.name}: {files}", *(f"    {kind:4}{', '.join(names)}" for kind, *names in rows)]
    )


def _tensors(specs: Sequence[TensorSpec]) -> list[str]:
    """`name [axes]` of each; caches, a pair a layer, are counted instead of listed."""
    shown = [f"{s.name} [{', '.join(map(str, s.axes))}]" for s in specs if "." not in s.name]
    rest = len(specs) - len(shown)
    return [*shown, f"and {rest} tensors of the cache"] if rest else shown
