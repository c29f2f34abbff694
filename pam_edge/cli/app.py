"""The command `pam-edge`: one function per verb, which reads options and calls the module that does the work.

Verbs that make bundles are in `export.py`, the verb for videos in `track.py`, those that measure in
`bench.py`. Results go to stdout, everything else to stderr. Heavy imports are inside the verbs, so that
`--help` is fast.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pam_edge.cli import bench, build, export, track
from pam_edge.cli.exits import Verbs, guarded
from pam_edge.cli.options import BundleFolder, Json, NoCheck, Threads
from pam_edge.core.errors import EnvironmentProblem

app = typer.Typer(
    name="pam-edge",
    cls=Verbs,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_Option = typer.Option


def main() -> None:
    """Entry point: errors become a message on stderr and an exit code (see errors.py)."""
    guarded(lambda: app(prog_name="pam-edge"), debug="--debug" in sys.argv[1:])


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"pam-edge {version('pam-edge')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, _Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, _Option("--debug", help="Show where errors come from.")] = False,
) -> None:
    """Perceive anything, on the device: point at an object in a picture, get its mask and words for it."""


app.command()(export.export)
app.command()(export.quantize)
app.command()(build.build)


@app.command()
def run(
    bundle: BundleFolder,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture file.")],
    point: Annotated[
        list[str] | None,
        _Option(metavar="X,Y[,0|1]", help="A click in pixels, 0 for 'not this'; any number of them."),
    ] = None,
    box: Annotated[str | None, _Option(metavar="X0,Y0,X1,Y1", help="A box around the object.")] = None,
    mask: Annotated[
        Path | None, _Option(metavar="FILE", help="A picture of the object's mask, as large as IMAGE.")
    ] = None,
    task: Annotated[
        str | None, _Option(metavar="A,B", help="Of recognize, explain, brief, detailed; default: brief.")
    ] = None,
    lang: Annotated[str, _Option(metavar="en|zh", help="Language of the answers.")] = "en",
    ask: Annotated[str | None, _Option(metavar="TEXT", help="A question of your own.")] = None,
    out: Annotated[
        Path | None, _Option(metavar="FILE", help="Draw mask and answers into this picture.")
    ] = None,
    temperature: Annotated[float, _Option(help="0 always takes the likeliest word.")] = 0.0,
    top_p: Annotated[float, _Option(help="Only the likeliest words that together reach this.")] = 1.0,
    seed: Annotated[int, _Option(help="Of the random choices, at a temperature above 0.")] = 0,
    max_tokens: Annotated[int, _Option(min=1, help="The longest answer.")] = 512,
    threads: Threads = 0,
    no_check: NoCheck = False,
    as_json: Json = False,
) -> None:
    """Point at an object in a picture: its mask first, then the answers as they are decoded."""
    from pam_edge import load, load_image
    from pam_edge.bundle.bundle import Bundle
    from pam_edge.cli.arguments import check_picture_place, language, read_prompt, read_tasks
    from pam_edge.cli.console import Answers, note, show, show_json
    from pam_edge.render.json_report import numbers, report
    from pam_edge.render.tables import caveats, region_line
    from pam_edge.text.decoding import Sampling
    from pam_edge.text.tokenization import task_name

    tasks, sampling = read_tasks(task, ask), Sampling(temperature, top_p, seed)
    if out is not None:
        check_picture_place(out)
    opened = Bundle.open(bundle, check=not no_check)
    for caveat in caveats(opened):
        note(f"note: {caveat}")
    pam = load(opened, threads=threads)
    words = language(lang, pam.texts, tasks)
    picture, prompt = load_image(image), read_prompt(point or [], box, mask)
    stream = pam.stream(
        picture,
        prompt,
        tasks=tasks,
        lang=words,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        max_tokens=max_tokens,
    )
    if not as_json:
        show(region_line(stream.region))
    answers = Answers([task_name(t) for t in tasks])
    for piece in stream:
        if not as_json:
            answers.push(piece)
    if as_json:
        show_json(report(stream.region, stream.answers, timing_ms=stream.text_timing_ms, cache=pam.cache))
    if out is not None:
        stream.result.save(out)
        note(f"picture: {out}")
    note(numbers(stream.timing_ms, stream.speed))


app.command()(track.track)


@app.command()
def inspect(bundle: BundleFolder, as_json: Json = False) -> None:
    """Tell what a bundle is: model, target, graphs, sizes, licences, verification."""
    import msgspec

    from pam_edge.bundle.bundle import Bundle
    from pam_edge.cli.console import note, show, show_json
    from pam_edge.render.tables import bundle_summary
    from pam_edge.verify.verified_here import look_up, warnings

    opened = Bundle.open(bundle, check=False)
    here = look_up(opened)
    for warning in warnings(here):
        note(f"note: {warning}")
    show_json(
        {
            **msgspec.to_builtins(opened.manifest),
            "total_bytes": opened.total_bytes,
            "here": msgspec.to_builtins(here.platform),
            "ok_here": here.ok,
        }
    ) if as_json else show(bundle_summary(opened))


@app.command()
def verify(bundle: BundleFolder, threads: Threads = 0, as_json: Json = False) -> None:
    """Run a bundle's graphs here and compare them with PyTorch's numbers from the export.

    The outcome is remembered in the user's cache folder, for this bundle, engine and kind of CPU.
    """
    import msgspec

    from pam_edge.bundle.bundle import Bundle
    from pam_edge.cli.console import Progress, show, show_json
    from pam_edge.render.tables import verification_table
    from pam_edge.verify.verified_here import remember
    from pam_edge.verify.verify import require_ok, steps
    from pam_edge.verify.verify import verify as check

    opened = Bundle.open(bundle)
    progress = Progress(steps(opened))
    result = check(opened, threads=threads, progress=progress.begin)
    progress.begin(None)
    remember(opened, result)
    show_json({"schema": 1, "ok": result.ok, **msgspec.to_builtins(result)}) if as_json else show(
        verification_table(result)
    )
    require_ok(result)


@app.command("eval")
def evaluate(
    bundle: BundleFolder,
    world: Annotated[
        int | None, _Option(metavar="SEED", help="Evaluate on rendered scenes of this seed.")
    ] = None,
    n: Annotated[int | None, _Option("--n", metavar="N", help="How many scenes; default: 100.")] = None,
    per_scene: Annotated[
        int | None, _Option(metavar="K", help="At most so many objects a scene; default: all.")
    ] = None,
    click: Annotated[
        str | None,
        _Option(
            metavar="centre|random",
            help="Where a scene's objects are clicked on: at their deepest pixel, as SAM is evaluated, or "
            "anywhere; default: centre.",
        ),
    ] = None,
    clips: Annotated[
        int | None,
        _Option(metavar="N", help="Follow and tell so many clips of the world, not its scenes."),
    ] = None,
    data: Annotated[
        Path | None, _Option(metavar="FILE", help="Evaluate on JSON lines in PAM's annotation format.")
    ] = None,
    image_root: Annotated[
        Path | None, _Option(metavar="DIR", help="Where their image paths start; default: FILE's folder.")
    ] = None,
    streams: Annotated[
        bool, _Option("--streams", help="Follow and tell the video records of --data, not its pictures.")
    ] = False,
    lang: Annotated[str, _Option(metavar="en,zh", help="Languages of questions and answers.")] = "en,zh",
    max_tokens: Annotated[int, _Option(min=1, help="The longest answer.")] = 128,
    out: Annotated[
        Path | None, _Option(metavar="DIR", help="Write figures (JSON) and a page of examples here.")
    ] = None,
    threads: Threads = 0,
    no_check: NoCheck = False,
    as_json: Json = False,
) -> None:
    """Measure how good a bundle's masks and words are, by kind of object and by language."""
    import msgspec

    from pam_edge.benchmarks.quality import evaluation
    from pam_edge.benchmarks.quality.gallery import Gallery
    from pam_edge.benchmarks.quality.pictures import evaluate as measure
    from pam_edge.benchmarks.quality.report import to_text
    from pam_edge.bundle.bundle import Bundle
    from pam_edge.cli.console import Progress, note, show, show_json
    from pam_edge.pipeline.pam import load
    from pam_edge.render.tables import caveats

    langs = evaluation.read_langs(lang)
    opened = Bundle.open(bundle, check=not no_check)
    choice = evaluation.DataChoice(world, n, per_scene, data, image_root, click, clips)
    if streams or clips is not None:
        follow = track.evaluate_streams if streams else track.evaluate_clips
        follow(opened, choice, langs, max_tokens=max_tokens, out=out, threads=threads, as_json=as_json)
        return
    source = evaluation.choose_source(choice, opened, langs)
    if out is not None:
        evaluation.prepare_folder(out, page=True)
    for caveat in caveats(opened):
        note(f"note: {caveat}")
    bar, gallery = Progress(["eval"]), Gallery()
    report = measure(
        load(opened, threads=threads),
        source,
        langs=langs,
        max_tokens=max_tokens,
        watch=(lambda judged: None) if out is None else gallery.add,
        progress=lambda done, count: bar("eval", done / count),
    )
    show_json(msgspec.to_builtins(report)) if as_json else show(to_text(report))
    if out is not None:
        figures, page = evaluation.write_results(out, report, gallery)
        note(f"figures: {figures}\npage: {page}")


app.add_typer(bench.bench)
app.command()(bench.compare)
app.command()(bench.report)


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one.")] = None,
    as_json: Json = False,
) -> None:
    """List the devices a bundle can be made for."""
    import msgspec

    from pam_edge.cli.console import show, show_json
    from pam_edge.cli.targets import target_details, targets_table
    from pam_edge.targets import TARGETS, target_named

    rows = TARGETS if name is None else (target_named(name),)
    if as_json:
        show_json(msgspec.to_builtins(rows))
    else:
        show(targets_table(rows) if name is None else target_details(rows[0]))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Tell what this machine has, what is missing, and what to do about it."""
    from pam_edge.cli import doctor as here
    from pam_edge.cli.console import show, show_json

    findings = here.examine()
    show_json(here.as_json(findings)) if as_json else show(here.as_text(findings))
    if not here.healthy(findings):
        raise EnvironmentProblem("the runtime cannot work here; see what is marked `fault` above")
