"""What tests need beside pip's packages is looked for, and named where it is missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tools import system_packages


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A system without any of the programs; returns the commands that would have been run."""
    ran: list[list[str]] = []
    monkeypatch.setattr(
        system_packages.shutil, "which", lambda name, path=None: "x" if name == "apt-get" else None
    )
    monkeypatch.setattr(subprocess, "run", lambda command, **options: ran.append(list(command)))
    return ran


def test_what_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch, bare: list[list[str]]) -> None:
    monkeypatch.setattr(system_packages.shutil, "which", lambda name, path=None: f"/usr/bin/{name}")
    assert system_packages.main([]) == 0 and bare == []


def test_root_installs_what_is_missing(monkeypatch: pytest.MonkeyPatch, bare: list[list[str]]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert system_packages.main(["adb"]) == 1  # still missing here
    assert bare == [["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", "adb"]]


def test_another_user_is_told_the_command(
    monkeypatch: pytest.MonkeyPatch, bare: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert system_packages.main([]) == 1
    said = capsys.readouterr().err
    assert "sudo apt-get install" in said and "openssh-server" in said and "NO_SKIP=0" in said and bare == []
    assert system_packages.main(["--allow-missing"]) == 0


def test_an_unknown_program_is_refused() -> None:
    with pytest.raises(SystemExit):
        system_packages.main(["vim"])


def test_sshd_is_found_where_debian_puts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(system_packages.shutil, "which", lambda name, path=None: asked.append(path))
    system_packages.missing(["sshd"])
    assert "/usr/sbin" in asked[0].split(os.pathsep)


def test_the_makefile_s_names_are_known() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    (line,) = (line for line in makefile.splitlines() if "system_packages.py qemu" in line)
    assert set(line.split("system_packages.py ")[1].split()) <= {p.name for p in system_packages.PROGRAMS}
