"""The options of `bench run` and `bench claims`, by what they are about. Knows no measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

_Option = typer.Option


@dataclass(frozen=True)
class DeviceOptions:
    """Where to measure."""

    device: Annotated[str, _Option(metavar="local|ssh:USER@HOST|adb[:SERIAL]", help="Where to measure.")] = (
        "local"
    )
    name: Annotated[
        str | None, _Option(metavar="TEXT", help="What rows call the device; default: as --device.")
    ] = None
    python: Annotated[str, _Option(metavar="CMD", help="The device's Python, for ssh.")] = "python3"
    env: Annotated[
        str, _Option(metavar="fetched|own", help="Packages there: locked ones sent from here, or its own.")
    ] = "fetched"
    remote: Annotated[str | None, _Option(metavar="DIR", help="The folder on the device where files go.")] = (
        None
    )
    ssh_config: Annotated[Path | None, _Option(metavar="FILE", help="Another configuration of ssh.")] = None
    runner: Annotated[Path | None, _Option(metavar="DIR", help="What runs on a phone, for adb.")] = None
    gate: Annotated[
        list[str] | None,
        _Option(metavar="TEXT", help="Measure only while this holds: temp<55, battery>50, charging=no."),
    ] = None
    cool_down: Annotated[float, _Option(min=0, help="Seconds to wait at a gate.")] = 300.0


@dataclass(frozen=True)
class GridOptions:
    """What to measure: lists make a grid, or a workload says it."""

    workload: Annotated[
        str | None,
        _Option(metavar="NAME|FILE", help="Measure what this says, as smoke-1.0; rows name it."),
    ] = None
    task: Annotated[str, _Option(metavar="A,B", help="Of image, clicks, video, decode, operators.")] = "image"
    clicks: Annotated[str, _Option(metavar="N,N", help="Clicks on one picture, task clicks.")] = "4"
    prompt: Annotated[str, _Option(metavar="N,N", help="Tokens of a prompt, task decode.")] = "512"
    frames: Annotated[str, _Option(metavar="N,N", help="Frames of a clip, tasks video, operators.")] = "16"
    objects: Annotated[str, _Option(metavar="N,N", help="Objects followed, tasks video, operators.")] = "1"
    size: Annotated[
        str, _Option(metavar="N,N", help="Longest side of the picture, task image; 0: as rendered.")
    ] = "0"
    tokens: Annotated[str, _Option(metavar="N,N", help="Tokens of each answer.")] = "32"
    repeat: Annotated[int, _Option("-r", "--repeat", min=1, help="Iterations that count.")] = 5
    warmup: Annotated[int, _Option(min=0, help="Warm-up iterations before, that do not count.")] = 2


@dataclass(frozen=True)
class RunOptions:
    """How to run it, and where rows go."""

    threads: Annotated[str, _Option(metavar="N,N", help="Threads of the engine; 0 lets it choose.")] = "0"
    interleave: Annotated[
        bool, _Option("--interleave", help="All bundles at once, iteration by iteration: A, B, A, B.")
    ] = False
    form: Annotated[
        str, _Option("-o", "--output", metavar="md|json|jsonl|csv", help="How rows are written.")
    ] = "md"
    out: Annotated[
        Path | None,
        _Option(metavar="FILE", help="Write here; with -o jsonl, rows join those that are there."),
    ] = None


@dataclass(frozen=True)
class ClaimsOptions:
    """Of `bench claims`."""

    cache: Annotated[Path, _Option(metavar="DIR", help="Where models are made: about 10 GB.")] = Path(
        "out/claims"
    )
    bundle: Annotated[
        Path | None, _Option(metavar="BUNDLE", help="PAM's; default: exported with random weights.")
    ] = None
    variant: Annotated[str, _Option(metavar="NAME", help="Of the export, without --bundle.")] = "pam-3b"
    scheme: Annotated[str, _Option(metavar="NAME", help="Of the export, without --bundle.")] = "int4"
    only: Annotated[str, _Option(metavar="A,B", help="Of image, video, original (PyTorch's flow).")] = (
        "image,video,original"
    )
    systems: Annotated[str, _Option(metavar="A,B", help="Systems to rebuild.")] = (
        "dam-3b,ferret-7b,videorefer-7b"
    )
    tokens: Annotated[int, _Option(min=2, help="Of every answer.")] = 32
    threads: Annotated[int, _Option(min=0, help="Of every side; 0: one a core.")] = 0
    repeat: Annotated[int, _Option("-r", "--repeat", min=1, help="Iterations that count.")] = 3
    warmup: Annotated[int, _Option(min=0, help="Warm-up iterations before, that do not count.")] = 1
    busy: Annotated[bool, _Option("--busy", help="Measure on a busy machine too; rows say so.")] = False
    clean: Annotated[bool, _Option("--clean", help="Remove each rebuilt system once measured.")] = False
    out: Annotated[Path | None, _Option(metavar="FILE", help="JSON lines that the rows join.")] = None
    table: Annotated[bool, _Option("--table", help="Measure nothing, print the verdicts of --out.")] = False
