"""Verbs that measure: `bench run`, `bench claims`, `compare`, `report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pam_edge.cli.bench_options import ClaimsOptions, DeviceOptions, GridOptions, RunOptions
from pam_edge.cli.option_groups import with_options

if TYPE_CHECKING:
    from pam_edge.benchmarks.harness.rows import Row
    from pam_edge.benchmarks.speed.plan import Plan

_Option = typer.Option


class _RunByDefault(TyperGroup):
    """`run` is meant where none of the verbs is named: `pam-edge bench BUNDLE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """As typer's, `run` put first where it is missing."""
        named = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return super().parse_args(ctx, args if named else ["run", *args])


bench = typer.Typer(
    name="bench",
    cls=_RunByDefault,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure how fast bundles are, and what they take.\n\n`bench BUNDLE ...` is `bench run BUNDLE ...`.",
)


class _Rows:
    """Rows as they come. `joins`: each batch is written at once, beside the rows that the file holds."""

    def __init__(self, out: Path | None, *, joins: bool) -> None:
        """Raises for a file that cannot be written, or joined, before slow work."""
        from pam_edge.benchmarks.harness.rows import read_rows
        from pam_edge.cli.arguments import check_place

        self.rows: list[Row] = []
        self._joined = out if joins else None
        if out is not None:
            check_place(out, "--out")
        if self._joined is not None:
            read_rows(self._joined)

    def keep(self, found: list[Row]) -> None:
        """A batch."""
        from pam_edge.benchmarks.harness.rows import put_rows

        self.rows += found
        if self._joined is not None:
            put_rows(self._joined, found)


@bench.command("run")
@with_options
def run(
    context: typer.Context,
    bundles: Annotated[
        str, typer.Argument(metavar="BUNDLE[,BUNDLE]", help="Folders made by `pam-edge export`, or nano.")
    ],
    on: DeviceOptions,
    what: GridOptions,
    how: RunOptions,
) -> None:
    """Measure bundles on a device; every list with commas makes a grid."""
    import tempfile

    from pam_edge.benchmarks.devices.choose import open_device
    from pam_edge.benchmarks.devices.local import Choice
    from pam_edge.benchmarks.harness.output import as_text, read_form
    from pam_edge.benchmarks.harness.rows import write_rows
    from pam_edge.benchmarks.speed.bench import measure
    from pam_edge.cli.console import note, show

    wanted = read_form(how.form)
    plan = _plan(bundles, on, what, how, context)
    kept = _Rows(how.out, joins=wanted == "jsonl")
    problems = []
    with tempfile.TemporaryDirectory(prefix="pam-edge-bench-") as logs:
        choice = Choice(on.device, on.name, on.python, on.env, on.remote, on.ssh_config, on.runner)
        there = open_device(choice, logs=Path(logs), tell=note)
        try:
            problems = measure(plan, there, kept.keep, note)
        finally:  # an interrupted run keeps what it has
            if how.out is None:
                show(as_text(kept.rows, wanted))
            elif wanted != "jsonl":
                write_rows(how.out, as_text(kept.rows, wanted))
    if how.out is not None:
        note(f"rows: {how.out}")
    if problems:
        more = f" ({len(problems)} of {len(plan.cells)} cells failed)" if len(problems) > 1 else ""
        raise type(problems[0])(f"{problems[0]}{more}")


def _plan(
    bundles: str, on: DeviceOptions, what: GridOptions, how: RunOptions, context: typer.Context
) -> Plan:
    """What is measured: of a workload, or of lists. Raises UsageError for what makes no sense."""
    from pam_edge.benchmarks.devices.gates import read_gates
    from pam_edge.benchmarks.speed.plan import Axes, Plan, grid, read_bundles, read_numbers, read_task_names
    from pam_edge.benchmarks.speed.workload import read_workload
    from pam_edge.core.errors import UsageError

    threads, gates = read_numbers(how.threads, "--threads", least=0), read_gates(on.gate or [])
    if what.workload is None:
        axes = Axes(
            clicks=read_numbers(what.clicks, "--clicks"),
            prompt=read_numbers(what.prompt, "--prompt"),
            frames=read_numbers(what.frames, "--frames"),
            objects=read_numbers(what.objects, "--objects"),
            size=read_numbers(what.size, "--size", least=0),
            tokens=read_numbers(what.tokens, "--tokens"),
            threads=threads,
        )
        tasks = read_task_names(what.task)
        cells = grid(read_bundles(bundles), tasks, axes, interleave=how.interleave)
        return Plan(cells, repeat=what.repeat, warmup=what.warmup, gates=gates, cool_down=on.cool_down)
    sources = {name: context.get_parameter_source(name) for name in vars(what) if name != "workload"}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        raise UsageError(f"--workload says what is measured: leave --{given[0]} out")
    workload, known = read_workload(what.workload)
    opened = read_bundles(bundles)
    return Plan(
        tuple(
            cell
            for part in workload.parts
            for cell in grid(opened, (part.task,), part.axes(threads), interleave=how.interleave)
        ),
        repeat=workload.repeat,
        warmup=workload.warmup,
        gates=gates,
        cool_down=on.cool_down,
        workload=known,
    )


@bench.command("claims")
@with_options
def claims(given: ClaimsOptions) -> None:
    """Check the paper's claims here: PAM beside PyTorch and other systems, rebuilt with random weights."""
    from pam_edge.benchmarks.harness.rows import read_file
    from pam_edge.benchmarks.paper_claims import verdict
    from pam_edge.benchmarks.paper_claims.check import Ask, check, read_parts
    from pam_edge.benchmarks.paper_claims.systems import system_named
    from pam_edge.bundle.config import variant_named
    from pam_edge.cli.console import note, show
    from pam_edge.core.errors import UsageError
    from pam_edge.core.system_info import cores
    from pam_edge.quantize.schemes import scheme_named

    if given.table:
        if given.out is None:
            raise UsageError("--table reads the rows of --out FILE; give one")
        show(verdict.to_text(read_file(given.out)))
        return
    variant_named(given.variant)
    scheme_named(given.scheme)
    ask = Ask(
        cache=given.cache,
        bundle=given.bundle,
        variant=given.variant,
        scheme=given.scheme,
        parts=read_parts(given.only),
        systems=tuple(dict.fromkeys(system_named(key.strip()) for key in given.systems.split(","))),
        threads=given.threads or cores(),
        tokens=given.tokens,
        rounds=given.repeat,
        warmup=given.warmup,
        busy=given.busy,
        clean=given.clean,
    )
    kept = _Rows(given.out, joins=True)
    try:
        check(ask, kept.keep, note)
    finally:  # an interrupted run keeps what it has
        show(verdict.to_text(kept.rows))


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
