"""Verbs that make bundles: `export` from weights, `quantize` from a float bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pam_edge.bundle import builtin
from pam_edge.cli.options import BundleFolder, Calibrate, Force
from pam_edge.core.errors import EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from pam_edge.bundle.config import Variant
    from pam_edge.bundle.manifest import Weights
    from pam_edge.export.driver.quantized import QuantizePlan
    from pam_edge.quantize.calibration import Samples

_Option = typer.Option


def export(
    target: Annotated[str, _Option(help="The device to export for; see `pam-edge targets`.")],
    weights: Annotated[
        str,
        _Option(
            metavar="DIR|ORG/NAME[@REV]|nano|random:VARIANT",
            help="A PAM folder, one on the Hugging Face hub, or seeded random weights.",
        ),
    ] = builtin.NANO,
    sam2: Annotated[
        str | None,
        _Option(metavar="FILE|ORG/NAME[@REV][:FILE]", help="SAM 2.1's own .pt, where the folder lacks it."),
    ] = None,
    sam2_config: Annotated[
        Path | None, _Option(metavar="FILE", help="Its configuration as JSON; default: Hiera-L.")
    ] = None,
    scheme: Annotated[str | None, _Option(help="Number format; default: the target's first.")] = None,
    calibrate: Calibrate = None,
    seed: Annotated[int, _Option(min=0, help="Seed of random weights.")] = 0,
    out: Annotated[
        Path | None, _Option("-o", "--out", metavar="DIR", help="Default: VARIANT-TARGET-SCHEME.")
    ] = None,
    dry_run: Annotated[bool, _Option("--dry-run", help="Only tell what it would take.")] = False,
    force: Force = False,
) -> None:
    """Make a bundle from weights. Interrupted, it goes on where it stopped when called again."""
    from pam_edge.cli.console import Progress, note, show
    from pam_edge.render.tables import export_table
    from pam_edge.targets import scheme_for, target_named
    from pam_edge.verify.verify import require_ok

    device = target_named(target)
    scheme = scheme_for(device, scheme)  # before anything slow
    try:
        from pam_edge.export.checkpoint.locate import locate
        from pam_edge.export.driver.build import GRAPHS, build, plan
        from pam_edge.export.driver.finish import VERIFY
        from pam_edge.export.driver.forecast import check_fits, check_suits
    except ModuleNotFoundError as e:
        raise EnvironmentProblem(f"exporting needs {e.name}: pip install 'pam-edge[export]'") from e

    located = locate(weights, sam2)
    for listing in located.listings:
        (show if dry_run else note)(listing.text())
    if dry_run and located.missing:
        note("what the export itself takes is told when the weights are here")
        return
    with _kept("what was downloaded is kept; the same command goes on from there"):
        found, sam2_found = located.fetch()
    settled = plan(
        found,
        target=target,
        scheme=scheme,
        sam2=sam2_found,
        sam2_config=sam2_config,
        seed=seed,
        samples=lambda opened: _samples(calibrate, opened.variant, opened.weights),
    )
    folder = out or Path(f"{settled.checkpoint.variant.name}-{device.name}-{scheme}")
    if settled.checkpoint.weights.kind == "random":
        note(f"note: {weights} is untrained: the bundle will run, but its answers mean nothing")
    (show if dry_run else note)(settled.needs.text(settled.target))
    check_suits(settled.needs, settled.target)
    check_fits(settled.needs, folder)
    if dry_run:
        return
    with _kept(f"finished graphs are kept in {folder}; the same command goes on from there"):
        bundle = build(settled, folder, force=force, report=Progress([*GRAPHS, VERIFY]))
    show(f"{export_table(bundle.manifest)}\nbundle: {folder}")
    require_ok(bundle.manifest.verification, bundle.manifest.rehearsal)


def quantize(
    bundle: BundleFolder,
    scheme: Annotated[str, _Option(help="Number format; see `pam-edge targets`.")],
    calibrate: Calibrate = None,
    out: Annotated[
        Path | None, _Option("-o", "--out", metavar="DIR", help="Default: VARIANT-TARGET-SCHEME.")
    ] = None,
    report: Annotated[
        bool, _Option("--report", help="Only tell how much each part would lose; make nothing.")
    ] = False,
    as_json: Annotated[bool, _Option("--json", help="Print the report as JSON, for machines.")] = False,
    force: Force = False,
) -> None:
    """Make a smaller bundle of a finished float one, and compare the two.

    Interrupted, it goes on where it stopped when called again.
    """
    from pam_edge.bundle.bundle import Bundle
    from pam_edge.cli.console import Progress, note, show
    from pam_edge.render.tables import size, verification_table
    from pam_edge.verify.verify import require_ok

    if as_json and not report:
        raise UsageError("--json prints the report: give --report with it")
    source = Bundle.open(bundle)
    held = source.manifest
    try:
        from pam_edge.export.driver.finish import VERIFY
        from pam_edge.export.driver.forecast import check_fits
        from pam_edge.export.driver.quantized import plan_quantize, quantize_bundle
    except ModuleNotFoundError as e:
        raise EnvironmentProblem(f"quantizing needs {e.name}: pip install 'pam-edge[export]'") from e

    settled = plan_quantize(source, scheme, samples=lambda: _samples(calibrate, held.variant, held.weights))
    if report:
        _report(settled, as_json=as_json)
        return
    folder = out or Path(f"{held.variant.name}-{held.target}-{scheme}")
    note(settled.needs.text())
    check_fits(settled.needs, folder)
    with _kept(f"finished graphs are kept in {folder}; the same command goes on from there"):
        made = quantize_bundle(settled, folder, force=force, report=Progress([*settled.steps, VERIFY]))
    show(f"{verification_table(made.manifest.verification)}\nbundle: {folder}")
    note(f"{size(source.total_bytes)} became {size(made.total_bytes)}")
    require_ok(made.manifest.verification)


def _samples(calibrate: str | None, variant: Variant, weights: Weights) -> Samples:
    """What to calibrate on."""
    from pam_edge.benchmarks.quality.calibration import samples_for

    size, random = variant.vision.image_size, weights.kind == "random"
    return samples_for(calibrate, variant=variant.name, random=random, image_size=size)


@contextmanager
def _kept(what: str) -> Iterator[None]:
    """Say what becomes of work that is interrupted."""
    from pam_edge.cli.console import note

    try:
        yield
    except KeyboardInterrupt:
        note(f"\nstopped: {what}")
        raise


def _report(settled: QuantizePlan, *, as_json: bool) -> None:
    """What each part would lose, as a table or JSON."""
    import tempfile

    import msgspec

    from pam_edge.cli.console import Progress, show, show_json
    from pam_edge.export.driver.sensitivity_report import sensitivity_report, to_rows
    from pam_edge.render.tables import columns

    with tempfile.TemporaryDirectory() as work:
        found = sensitivity_report(settled, Path(work), report=Progress(list(settled.steps)[1:]))
    rows = {"schema": 1, "scheme": settled.scheme.name, "parts": msgspec.to_builtins(found)}
    show_json(rows) if as_json else show(columns(to_rows(found)))
