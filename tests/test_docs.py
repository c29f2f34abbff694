"""README.md and docs/: generated blocks are what programs print, code blocks run, links lead somewhere.

Of shell blocks, `pam-edge` lines that need nothing but the packaged nano are run (`RUN`); all are parsed by
the real command line.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.core import TyperGroup
from typer.testing import CliRunner

import pam_edge
from pam_edge.benchmarks import synthetic
from pam_edge.cli.app import app
from tools import generated_docs

ROOT = Path(__file__).parents[1]
PAGES = generated_docs.documents()
VERBS = typer.main.get_command(app)
RUN = re.compile(r"pam-edge ((run|inspect|verify) nano(?= |$)|targets\b|doctor\b|report benchmarks/results/)")


def blocks(path: Path, *languages: str) -> list[str]:
    """Fenced blocks of these languages, in order."""
    text = path.read_text(encoding="utf-8")
    return [m[2] for m in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if m[1] in languages]


def shell_lines() -> Iterator[tuple[str, list[str]]]:
    """Page, and the words of each `pam-edge` call in its shell blocks (of a pipe, the part that is ours)."""
    for path in PAGES:
        for block in blocks(path, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                for part in re.split(r"\s(?:\||&&)\s", line):
                    words = shlex.split(part, comments=True)
                    if words[:1] == ["pam-edge"]:
                        yield str(path.relative_to(ROOT)), words


SHELL = list(shell_lines())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with out/demo/scene.png, as after `make demo`, clip.mp4, and this repository's rows."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "out" / "demo").mkdir(parents=True)
    picture = Image.fromarray(synthetic.scene(339, split="heldout").image)
    picture.save(folder / "out" / "demo" / "scene.png")
    synthetic.write_clips(folder, 7, 1, "heldout", video=True)
    (video,) = (folder / "clips").glob("*.mp4")
    video.rename(folder / "clip.mp4")
    (folder / "benchmarks" / "results").mkdir(parents=True)
    for rows in (ROOT / "benchmarks" / "results").glob("*.jsonl"):
        shutil.copy(rows, folder / "benchmarks" / "results")
    return folder


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_generated_blocks_are_fresh(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert generated_docs.rendered(text) == text, "run `make docs`"


def test_every_command_has_its_block() -> None:
    assert isinstance(VERBS, TyperGroup)
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    found = re.findall(r"^<!-- begin: pam-edge (.*?) ?--help -->$", text, re.M)
    nested = [
        f"{verb} {name}"
        for verb, group in VERBS.commands.items()
        if isinstance(group, TyperGroup)
        for name in group.commands
    ]
    assert sorted(found) == sorted(["", *VERBS.commands, *nested])
    assert "<!-- begin: pam-edge targets -->" in text
    assert "<!-- begin: table schemes -->" in (ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")


def test_every_public_name_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    named = re.findall(r"^\.\. auto\w+:: pam_edge\.(\w+)$", text, re.M)
    assert len(set(named)) == len(named)
    assert {*named, "__version__"} == set(pam_edge.__all__)


@pytest.mark.parametrize("path", [p for p in PAGES if blocks(p, "python")], ids=lambda path: path.name)
def test_python_blocks_run(path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    (place / "answer.png").unlink(missing_ok=True)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(path, "python"):
        exec(compile(block, path.name, "exec"), names)
    assert (place / "answer.png").is_file() or "answer.png" not in path.read_text(encoding="utf-8")


def test_pages_show_python() -> None:
    assert {"README.md", "quickstart.md", "python.md"} <= {p.name for p in PAGES if blocks(p, "python")}


@pytest.mark.parametrize(
    ("page", "words"), [pytest.param(*call, id=f"{call[0]}: {shlex.join(call[1])}") for call in SHELL]
)
def test_shell_lines_are_understood(page: str, words: list[str]) -> None:
    assert isinstance(VERBS, TyperGroup)
    with typer.Context(VERBS, info_name="pam-edge") as top:
        name, command, rest = VERBS.resolve_command(top, words[1:])
        command.make_context(name, rest, parent=top)  # raises where an option is unknown or a value is none


@pytest.mark.parametrize(
    "words", [call for _, call in SHELL if RUN.match(shlex.join(call))], ids=lambda words: shlex.join(words)
)
def test_shell_lines_on_nano_run(words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    result = CliRunner().invoke(app, words[1:], prog_name="pam-edge")
    assert result.exit_code == 0, result.output
    assert result.stdout or (words[1] == "report" and (place / "report.html").is_file())


def test_enough_lines_run() -> None:
    verbs = {words[1] for _, words in SHELL if RUN.match(shlex.join(words))}
    assert {"run", "inspect", "verify", "targets", "doctor", "report"} <= verbs


def test_links_lead_somewhere() -> None:
    for document in PAGES:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} points at {target}"


def test_every_page_is_in_the_site() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = {line for block in re.findall(r"```{toctree}\n(.*?)```", index, re.S) for line in block.split()}
    pages = {str(p.relative_to(ROOT / "docs").with_suffix("")) for p in (ROOT / "docs").rglob("*.md")}
    assert pages - {"index"} <= listed


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
