"""The verb `build`: compiles a bundle for the device it is on."""

from __future__ import annotations

from typing import Annotated

import typer

from pam_edge.cli.options import BundleFolder

_Option = typer.Option


def build(
    bundle: BundleFolder,
    workspace: Annotated[
        int,
        _Option(min=0, metavar="MB", help="Memory one graph's tactics may take; 0: the engine's own limit."),
    ] = 0,
    capability: Annotated[
        list[str] | None,
        _Option(
            metavar="SM89", help="Only for target rtx: build ahead for such cards, on a machine without."
        ),
    ] = None,
    force: Annotated[bool, _Option("--force", help="Compile again what is there.")] = False,
) -> None:
    """Compile the engines of a TensorRT bundle, on the device that will run it.

    One graph at a time, each in a process of its own; interrupted, it goes on where it stopped when called
    again. An engine made with another GPU, driver or TensorRT is made again.
    """
    from pam_edge.bundle.bundle import Bundle
    from pam_edge.cli.console import Progress, note, show
    from pam_edge.render.tables import columns, size
    from pam_edge.runtimes.tensorrt.build import build_engines

    opened = Bundle.open(bundle)
    graphs = [graph.name for graph in opened.manifest.graphs]
    made = build_engines(
        opened,
        workspace=workspace * 10**6,
        capabilities=tuple(capability or ()),
        force=force,
        report=Progress(graphs),
    )
    rows = [("graph", "engine", "compiled in")]
    rows += [(record.graph, size(record.bytes), f"{record.seconds:.1f} s") for record in made]
    show(columns(rows) if made else "every engine is there and made for here")
    note("next: `pam-edge verify` runs every graph here and compares")
