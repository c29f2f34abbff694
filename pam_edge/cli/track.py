"""What the command line does with videos: the verb `track`, and `eval --streams`. Called by app.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pam_edge.cli.options import BundleFolder, NoCheck, Threads
from pam_edge.core.errors import UsageError

if TYPE_CHECKING:
    from pam_edge.benchmarks.quality.evaluation import DataChoice
    from pam_edge.bundle.bundle import Bundle
    from pam_edge.text.tokenization import Lang

_Option = typer.Option


def track(
    bundle: BundleFolder,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A video file, a folder of frames, a camera's device, or - for a pipe."
        ),
    ],
    point: Annotated[
        list[str] | None,
        _Option(metavar="X,Y[,0|1]", help="A click in pixels, 0 for 'not this'; all are of one object."),
    ] = None,
    box: Annotated[
        list[str] | None, _Option(metavar="X0,Y0,X1,Y1", help="A box around an object; one for each object.")
    ] = None,
    mask: Annotated[
        Path | None, _Option(metavar="FILE", help="A picture of the object's mask, as large as a frame.")
    ] = None,
    frame: Annotated[int, _Option(min=0, metavar="K", help="Which frame is pointed at, from 0.")] = 0,
    backwards: Annotated[
        bool,
        _Option("--backwards", help="Follow from that frame back to the first, in a file or a folder."),
    ] = False,
    caption: Annotated[
        str, _Option(metavar="stream|clip|none", help="Tell what happens: segment by segment, or in one.")
    ] = "none",
    every: Annotated[
        str, _Option(metavar="N|change", help="Frames of a segment, or cut where something changes.")
    ] = "32",
    lang: Annotated[str, _Option(metavar="en|zh", help="Language of the captions.")] = "en",
    out: Annotated[
        Path | None, _Option(metavar="FILE", help="Draw masks and captions into this video (.mp4, .mkv).")
    ] = None,
    json: Annotated[
        str | None, _Option(metavar="FILE", help="JSON lines as results come; - prints them instead of text.")
    ] = None,
    max_tokens: Annotated[int, _Option(min=1, help="The longest caption.")] = 128,
    threads: Threads = 0,
    no_check: NoCheck = False,
) -> None:
    """Point at objects in a video: their masks frame by frame, and captions of what happens to them."""
    from contextlib import ExitStack

    from pam_edge.bundle.bundle import Bundle
    from pam_edge.bundle.graph_io import check_video
    from pam_edge.cli.arguments import check_apart, check_place, language, read_objects, read_plan
    from pam_edge.cli.console import note, show, show_json
    from pam_edge.pipeline.pam import load
    from pam_edge.render.tables import caveats, clean_lines
    from pam_edge.render.track_output import Line, Outputs, lines_in
    from pam_edge.render.track_output import track as follow
    from pam_edge.render.video_writer import ENDINGS
    from pam_edge.video.reader import open_source
    from pam_edge.video.reverse_reader import open_backwards
    from pam_edge.video.stream import Plan

    objects = read_objects(point or [], box or [], mask)
    captions, cut = read_plan(caption, every)
    if backwards and captions != "none":
        raise UsageError("--backwards follows and tells nothing: captions tell what happens in its order")
    if out is not None:
        check_place(out, "--out", endings=ENDINGS)
    lines = None if json in (None, "-") else Path(str(json))
    if lines is not None:
        check_place(lines, "--json")
    check_apart(source, {"--out": out, "--json": lines})
    opened = Bundle.open(bundle, check=not no_check)
    check_video(opened)
    for caveat in caveats(opened):
        note(f"note: {caveat}")
    with ExitStack() as stack:
        shots = stack.enter_context(
            open_backwards(source, frame) if backwards else open_source(source, count=captions == "clip")
        )
        pam = load(opened, threads=threads)
        words = language(lang, pam.texts, [])
        line: Line | None = show_json if json == "-" else None
        if lines is not None:
            line = stack.enter_context(lines_in(lines))
        plan = Plan(captions, cut, shots.count, words, max_tokens=max_tokens, backwards=backwards)
        say = None if json == "-" else (lambda text, end: show(clean_lines(text), end=end))
        spent = follow(pam, shots, {frame: objects}, plan, Outputs(line, say, out))
    if out is not None:
        note(f"video: {out}")
    note(spent.text())


def evaluate_streams(
    bundle: Bundle,
    choice: DataChoice,
    langs: Sequence[Lang],
    *,
    max_tokens: int,
    out: Path | None,
    threads: int,
    as_json: bool,
) -> None:
    """Follow and tell a file's video records: figures on stdout, the records with `pred` in `out`."""
    import msgspec

    from pam_edge.benchmarks.quality import evaluation
    from pam_edge.benchmarks.quality import streams as of
    from pam_edge.bundle.graph_io import check_video
    from pam_edge.cli.console import Progress, note, show, show_json
    from pam_edge.pipeline.pam import load
    from pam_edge.render.tables import caveats

    data, image_root = evaluation.choose_streams(choice)
    check_video(bundle)
    records = of.read_streams(data, image_root, langs)
    if out is not None:
        evaluation.prepare_folder(out)
    for caveat in caveats(bundle):
        note(f"note: {caveat}")
    bar = Progress(["streams"])
    results, report = of.evaluate_streams(
        load(bundle, threads=threads),
        records,
        image_root,
        max_tokens=max_tokens,
        progress=lambda done, count: bar("streams", done / count),
    )
    show_json({"schema": 1, "streams": msgspec.to_builtins(report)}) if as_json else show(of.to_text(report))
    if out is not None:
        path = evaluation.write_whole(out / "streams.jsonl", of.as_lines(results))
        note(f"results: {path}")


def evaluate_clips(
    bundle: Bundle,
    choice: DataChoice,
    langs: tuple[Lang, ...],
    *,
    max_tokens: int,
    out: Path | None,
    threads: int,
    as_json: bool,
) -> None:
    """Follow and tell clips of the world: figures on stdout, and in `out` with a page of examples."""
    import msgspec

    from pam_edge.benchmarks.quality import clip_report, evaluation
    from pam_edge.benchmarks.quality.clips import evaluate
    from pam_edge.benchmarks.quality.report import LANGUAGE_NAMES
    from pam_edge.bundle.graph_io import check_video
    from pam_edge.cli.console import Progress, note, show, show_json
    from pam_edge.pipeline.pam import load
    from pam_edge.render.tables import caveats

    seed, count = evaluation.choose_clips(choice)
    evaluation.check_langs(bundle, langs)
    check_video(bundle)
    if out is not None:
        evaluation.prepare_folder(out)
    for caveat in caveats(bundle):
        note(f"note: {caveat}")
    bar = Progress(["clips"])
    report = evaluate(
        load(bundle, threads=threads),
        seed,
        count,
        langs=langs,
        max_tokens=max_tokens,
        progress=lambda done, of: bar("clips", done / of),
    )
    text = clip_report.to_text(report, LANGUAGE_NAMES)
    show_json(msgspec.to_builtins(report)) if as_json else show(text)
    if out is not None:
        path = evaluation.write_whole(out / "motion.json", clip_report.to_json(report))
        note(f"figures: {path}")
