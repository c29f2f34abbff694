"""Verbs that measure: `bench`, `bench claims`, `compare`, `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_Option = typer.Option


def bench(
    bundles: Annotated[
        str, typer.Argument(metavar="BUNDLE[,BUNDLE]", help="Folders made by `pam-edge export`, or nano.")
    ],
    device: Annotated[
        str, _Option(metavar="local|ssh:USER@HOST|adb[:SERIAL]", help="Where to measure.")
    ] = "local",
    name: Annotated[
        str | None, _Option(metavar="TEXT", help="What rows call the device; default: as --device.")
    ] = None,
    python: Annotated[str, _Option(metavar="CMD", help="The device's Python, for ssh.")] = "python3",
    env: Annotated[
        str, _Option(metavar="fetched|own", help="Packages there: locked ones sent from here, or its own.")
    ] = "fetched",
    remote: Annotated[
        str | None, _Option(metavar="DIR", help="The folder on the device where files go.")
    ] = None,
    ssh_config: Annotated[Path | None, _Option(metavar="FILE", help="Another configuration of ssh.")] = None,
    task: Annotated[
        str, _Option(metavar="A,B", help="Of image, clicks, video, decode, operators.")
    ] = "image",
    clicks: Annotated[str, _Option(metavar="N,N", help="Clicks on one picture, task clicks.")] = "4",
    prompt: Annotated[str, _Option(metavar="N,N", help="Tokens of a prompt, task decode.")] = "512",
    frames: Annotated[str, _Option(metavar="N,N", help="Frames of a clip, tasks video, operators.")] = "16",
    objects: Annotated[str, _Option(metavar="N,N", help="Objects followed, tasks video, operators.")] = "1",
    size: Annotated[
        str, _Option(metavar="N,N", help="Longest side of the picture, task image; 0: as rendered.")
    ] = "0",
    tokens: Annotated[str, _Option(metavar="N,N", help="Tokens of each answer.")] = "32",
    threads: Annotated[str, _Option(metavar="N,N", help="Threads of the engine; 0 lets it choose.")] = "0",
    runner: Annotated[Path | None, _Option(metavar="DIR", help="What runs on a phone, for adb.")] = None,
    repeat: Annotated[int, _Option("-r", "--repeat", min=1, help="Turns that count.")] = 5,
    warmup: Annotated[int, _Option(min=0, help="Turns before, that do not count.")] = 2,
    interleave: Annotated[
        bool, _Option("--interleave", help="All bundles at once, in turns: A, B, A, B.")
    ] = False,
    gate: Annotated[
        list[str] | None,
        _Option(metavar="TEXT", help="Measure only while this holds: temp<55, battery>50, charging=no."),
    ] = None,
    cool_down: Annotated[float, _Option(min=0, help="Seconds to wait at a gate.")] = 300.0,
    form: Annotated[
        str, _Option("-o", "--output", metavar="md|json|jsonl|csv", help="How rows are written.")
    ] = "md",
    out: Annotated[
        Path | None,
        _Option(metavar="FILE", help="Write here; with -o jsonl, rows join those that are there."),
    ] = None,
) -> None:
    """Measure how fast bundles are, and what they take; every list with commas makes a grid."""
    import tempfile

    from pam_edge.benchmarks.devices.choose import open_device
    from pam_edge.benchmarks.devices.gates import read_gates
    from pam_edge.benchmarks.devices.local import Choice
    from pam_edge.benchmarks.harness.output import as_text, read_form
    from pam_edge.benchmarks.harness.rows import Row, put_rows, read_rows, write_rows
    from pam_edge.benchmarks.speed.bench import measure
    from pam_edge.benchmarks.speed.plan import Axes, Plan, grid, read_bundles, read_numbers, read_task_names
    from pam_edge.cli.arguments import check_place
    from pam_edge.cli.console import note, show

    wanted = read_form(form)
    axes = Axes(
        clicks=read_numbers(clicks, "--clicks"),
        prompt=read_numbers(prompt, "--prompt"),
        frames=read_numbers(frames, "--frames"),
        objects=read_numbers(objects, "--objects"),
        size=read_numbers(size, "--size", least=0),
        tokens=read_numbers(tokens, "--tokens"),
        threads=read_numbers(threads, "--threads", least=0),
    )
    gates, tasks = read_gates(gate or []), read_task_names(task)
    cells = grid(read_bundles(bundles), tasks, axes, interleave=interleave)
    if out is not None:
        check_place(out, "--out")
        if wanted == "jsonl":
            read_rows(out)  # before slow work: what is there can be joined
    rows: list[Row] = []

    def keep(found: list[Row]) -> None:
        rows.extend(found)
        if out is not None and wanted == "jsonl":
            put_rows(out, found)

    problems = []
    with tempfile.TemporaryDirectory(prefix="pam-edge-bench-") as logs:
        choice = Choice(device, name, python, env, remote, ssh_config, runner)
        there = open_device(choice, logs=Path(logs), tell=note)
        try:
            plan = Plan(cells, repeat=repeat, warmup=warmup, gates=gates, cool_down=cool_down)
            problems = measure(plan, there, keep, note)
        finally:  # an interrupted run keeps what it has
            if out is None:
                show(as_text(rows, wanted))
            elif wanted != "jsonl":
                write_rows(out, as_text(rows, wanted))
    if out is not None:
        note(f"rows: {out}")
    if problems:
        more = f" ({len(problems)} of {len(cells)} places failed)" if len(problems) > 1 else ""
        raise type(problems[0])(f"{problems[0]}{more}")


def claims(
    cache: Annotated[Path, _Option(metavar="DIR", help="Where models are made: about 10 GB.")] = Path(
        "out/claims"
    ),
    bundle: Annotated[
        Path | None, _Option(metavar="BUNDLE", help="PAM's; default: exported with random weights.")
    ] = None,
    variant: Annotated[str, _Option(metavar="NAME", help="Of the export, without --bundle.")] = "pam-3b",
    scheme: Annotated[str, _Option(metavar="NAME", help="Of the export, without --bundle.")] = "int4",
    only: Annotated[
        str, _Option(metavar="A,B", help="Of image, video, original (PyTorch's flow).")
    ] = "image,video,original",
    systems: Annotated[
        str, _Option(metavar="A,B", help="Systems to rebuild.")
    ] = "dam-3b,ferret-7b,videorefer-7b",
    tokens: Annotated[int, _Option(min=2, help="Of every answer.")] = 32,
    threads: Annotated[int, _Option(min=0, help="Of every side; 0: one a core.")] = 0,
    repeat: Annotated[int, _Option("-r", "--repeat", min=1, help="Rounds that count.")] = 3,
    warmup: Annotated[int, _Option(min=0, help="Rounds before, that do not count.")] = 1,
    busy: Annotated[bool, _Option("--busy", help="Measure on a busy machine too; rows say so.")] = False,
    clean: Annotated[bool, _Option("--clean", help="Remove each rebuilt system once measured.")] = False,
    out: Annotated[Path | None, _Option(metavar="FILE", help="JSON lines that the rows join.")] = None,
    table: Annotated[bool, _Option("--table", help="Measure nothing, print the verdicts of --out.")] = False,
) -> None:
    """Check the paper's claims here: PAM beside PyTorch and other systems, rebuilt with random weights."""
    from pam_edge.benchmarks.harness.rows import Row, put_rows, read_file, read_rows
    from pam_edge.benchmarks.paper_claims import verdict
    from pam_edge.benchmarks.paper_claims.check import Ask, check, read_parts
    from pam_edge.benchmarks.paper_claims.systems import system_named
    from pam_edge.bundle.config import variant_named
    from pam_edge.cli.arguments import check_place
    from pam_edge.cli.console import note, show
    from pam_edge.core.errors import UsageError
    from pam_edge.core.system_info import cores
    from pam_edge.quantize.schemes import scheme_named

    if table:
        if out is None:
            raise UsageError("--table reads the rows of --out FILE; give one")
        show(verdict.to_text(read_file(out)))
        return
    variant_named(variant)
    scheme_named(scheme)
    ask = Ask(
        cache=cache,
        bundle=bundle,
        variant=variant,
        scheme=scheme,
        parts=read_parts(only),
        systems=tuple(dict.fromkeys(system_named(key.strip()) for key in systems.split(","))),
        threads=threads or cores(),
        tokens=tokens,
        rounds=repeat,
        warmup=warmup,
        busy=busy,
        clean=clean,
    )
    if out is not None:
        check_place(out, "--out")
        read_rows(out)  # before slow work: what is there can be joined
    rows: list[Row] = []

    def keep(found: list[Row]) -> None:
        rows.extend(found)
        if out is not None:
            put_rows(out, found)

    try:
        check(ask, keep, note)
    finally:  # an interrupted run keeps what it has
        show(verdict.to_text(rows))


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="JSON lines of `bench`: before.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="After.")],
    max_regress: Annotated[str, _Option(metavar="SHARE", help="How much slower or bigger B may be.")] = "5%",
) -> None:
    """Compare two files of rows; exits 8 where B is worse than allowed, and not by noise."""
    from pam_edge.benchmarks.harness import compare as of
    from pam_edge.benchmarks.harness.rows import read_file
    from pam_edge.cli.console import show
    from pam_edge.core.errors import RegressionError

    most = of.read_share(max_regress)
    pairs = of.compare(read_file(a), read_file(b), most=most)
    show(of.to_text(pairs, most=most))
    if worse := of.regressions(pairs):
        first = " ".join(worse[0].name[:4])
        raise RegressionError(f"{len(worse)} are worse by more than {most:.0%}; the first: {first}")


def report(
    rows: Annotated[
        list[Path], typer.Argument(metavar="ROWS...", help="JSON lines of `bench`, or of benchmarks/results.")
    ],
    out: Annotated[Path, _Option(metavar="FILE", help="The page.")] = Path("report.html"),
    png: Annotated[
        Path | None, _Option(metavar="DIR", help="Write every chart as pictures into this folder too.")
    ] = None,
) -> None:
    """Make one page of charts from any rows: stages, schemes, decoding, memory, devices, growth."""
    from pam_edge.benchmarks.report.write import read_all, write
    from pam_edge.cli.arguments import check_place
    from pam_edge.cli.console import note

    check_place(out, "--out", endings=(".html", ".htm"))
    found, lines = read_all(rows)
    count = write(found, lines, out, pictures=png)
    note(f"page: {out}" + (f"\npictures: {count} in {png}" if png is not None else ""))
