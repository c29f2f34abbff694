"""What `pam-edge eval` does between its words and its files: which data, which languages, where results go.

Says what is wrong in the words the user wrote. Knows no metric and prints nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import get_args

from pam_edge.benchmarks.harness.result_lines import replace_file
from pam_edge.benchmarks.quality.annotations import annotated_source
from pam_edge.benchmarks.quality.cases import Source
from pam_edge.benchmarks.quality.clips import check_clips
from pam_edge.benchmarks.quality.gallery import Gallery
from pam_edge.benchmarks.quality.report import Report, to_json
from pam_edge.benchmarks.quality.world_cases import Click, world_source
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import UsageError, cannot_write
from pam_edge.text.tokenization import Lang

SCENES = 100  # where no number is given
JSON, PAGE = "quality.json", "index.html"


@dataclass(frozen=True)
class DataChoice:
    """What the command line says about data: a world's seed, or a file of annotations."""

    world: int | None = None
    n: int | None = None
    per_scene: int | None = None
    data: Path | None = None
    image_root: Path | None = None
    click: str | None = None
    clips: int | None = None


def choose_source(choice: DataChoice, bundle: Bundle, langs: tuple[Lang, ...]) -> Source:
    """The data to evaluate on, known to be usable. Raises UsageError for options that do not go together, and
    like `world_source` and `annotated_source`.
    """
    tasks = bundle.manifest.prompts.tasks
    check_langs(bundle, langs)
    if (choice.world is None) == (choice.data is None):
        raise UsageError(
            "give --world SEED (rendered scenes) or --data FILE.jsonl (pictures of your own), one of them"
        )
    if choice.world is not None:
        if choice.image_root is not None:
            raise UsageError("--image-root belongs to --data; the world renders its own pictures")
        n = SCENES if choice.n is None else choice.n
        click = _read_click(choice.click or "centre")  # as SAM is evaluated
        return world_source(choice.world, n, langs=langs, per_scene=choice.per_scene, click=click)
    assert choice.data is not None  # one of the two is given
    if choice.n is not None or choice.per_scene is not None or choice.click is not None:
        raise UsageError(
            "--n, --per-scene and --click belong to --world; --data is evaluated whole, with its own clicks"
        )
    root = choice.data.parent if choice.image_root is None else choice.image_root
    return annotated_source(choice.data, root, langs=langs, tasks=tasks)


def check_langs(bundle: Bundle, langs: tuple[Lang, ...]) -> None:
    """Raise UsageError for a language that a bundle has no tasks in."""
    tasks = bundle.manifest.prompts.tasks
    for lang in langs:
        if lang not in tasks:
            raise UsageError(f"--lang {lang}: this bundle has tasks in {', '.join(sorted(tasks))} only")


def choose_streams(choice: DataChoice) -> tuple[Path, Path]:
    """The file of video records to evaluate on, and where their frames' paths start. Raises UsageError for
    options that do not go with it.
    """
    if choice.data is None:
        raise UsageError("--streams evaluates the video records of --data FILE.jsonl: give one")
    if (choice.world, choice.n, choice.per_scene, choice.click, choice.clips) != (None,) * 5:
        raise UsageError("--world, --clips, --n, --per-scene and --click do not belong to --streams")
    return choice.data, choice.data.parent if choice.image_root is None else choice.image_root


def choose_clips(choice: DataChoice) -> tuple[int, int]:
    """The world's seed and the number of its clips to evaluate on, known to be usable. Raises UsageError for
    options that do not go with them.
    """
    if choice.world is None or choice.clips is None:
        raise UsageError("--clips renders clips of the world: give --world SEED with it")
    if (choice.n, choice.per_scene, choice.click, choice.data, choice.image_root) != (None,) * 5:
        raise UsageError("--n, --per-scene, --click, --data and --image-root do not belong to --clips")
    check_clips(choice.world, choice.clips)
    return choice.world, choice.clips


def _read_click(text: str) -> Click:
    for known in get_args(Click):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"--click {text!r}: give centre or random")


def read_langs(text: str) -> tuple[Lang, ...]:
    """`en`, `zh` or both, comma between. Raises UsageError otherwise."""
    found: list[Lang] = []
    for name in text.split(","):
        match name.strip():
            case "en" | "zh" as lang if lang not in found:
                found.append(lang)
            case _:
                raise UsageError(f"--lang {text!r}: give en, zh or en,zh")
    return tuple(found)


def prepare_folder(out: Path, *, page: bool = False) -> None:
    """Make the folder for results and find out, before slow work, that it can be written, and with `page`
    that the packages are here which make a page.

    Raises UsageError where a file is in the way, EnvironmentProblem or WontFitError where it cannot be
    written, EnvironmentProblem where a package is missing.
    """
    if page:
        import_module("pam_edge.benchmarks.report")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; name a folder")
    probe = out / f"{JSON}.tmp"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as e:
        raise cannot_write(out, e) from e


def write_results(out: Path, report: Report, gallery: Gallery) -> tuple[Path, Path]:
    """Write figures and page into `out`, each whole or not at all; returns their paths. Raises like
    `prepare_folder`, and EnvironmentProblem without the extra `report`.
    """
    from pam_edge.benchmarks.report.evaluation import page  # `eval` without --out needs none of its packages

    return (
        write_whole(out / JSON, to_json(report)),
        write_whole(out / PAGE, page(report, gallery).encode()),
    )


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all. Raises like `prepare_folder`."""
    replace_file(path, content)
    return path
