"""Options and arguments that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleFolder = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A folder made by `pam-edge export`, or nano.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Threads = Annotated[int, typer.Option(min=0, help="Threads of the engine; 0 lets it choose.")]
NoCheck = Annotated[bool, typer.Option("--no-check", help="Do not compare the bundle's checksums first.")]
Force = Annotated[
    bool,
    typer.Option("--force", help="Replace a bundle, or an unfinished one made with other options."),
]
Calibrate = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|world",
        help="Pictures to calibrate on. Default: for nano the world, for random weights drawn ones.",
    ),
]
