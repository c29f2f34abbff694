"""Options in groups: dataclasses on the inside, plain options on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from pam_edge.cli.option_groups import with_options


@dataclass(frozen=True)
class Size:
    wide: Annotated[int, typer.Option(help="Pixels.")]
    high: Annotated[int, typer.Option("-y", "--high", min=1)] = 3


@dataclass(frozen=True)
class Place:
    left: int = 0


def test_fields_are_options() -> None:
    found: list[object] = []
    app = typer.Typer()

    @app.command()
    @with_options
    def draw(name: str, size: Size, place: Place) -> None:
        """Draws."""
        found.extend([name, size, place])

    run = CliRunner().invoke
    assert run(app, ["a", "--wide", "2", "-y", "5"]).exit_code == 0
    assert found == ["a", Size(2, 5), Place()]
    assert run(app, ["a"]).exit_code == 2  # a field without a default is asked for
    assert run(app, ["a", "--wide", "2", "--high", "0"]).exit_code == 2
    help_text = run(app, ["--help"]).output
    assert "Draws." in help_text and "Pixels." in help_text and "--left" in help_text


def test_two_groups_with_one_name_are_refused() -> None:
    def draw(a: Place, b: Place) -> None: ...

    with pytest.raises(TypeError, match="draw has two options 'left'"):
        with_options(draw)
