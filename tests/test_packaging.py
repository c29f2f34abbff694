"""What is installed is what lies in the folders, and every way of seeing the tree sees the same one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]
SUBPACKAGES = ("benchmarks", "export", "quantize", "runtimes")


def settings() -> dict[str, object]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"])


def contracts() -> dict[str, dict[str, list[str]]]:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return {contract["name"]: contract for contract in found}


def folders() -> set[str]:
    found = {"pam_edge"}
    for top in SUBPACKAGES:
        for init in (ROOT / top).rglob("__init__.py"):
            found.add("pam_edge." + ".".join(init.parent.relative_to(ROOT).parts))
    return found | rooms()


def rooms() -> set[str]:
    """Packages that lie in `pam_edge/` itself."""
    inits = (ROOT / "pam_edge").glob("*/__init__.py")
    return {f"pam_edge.{init.parent.name}" for init in inits} - {f"pam_edge.{top}" for top in SUBPACKAGES}


def test_the_packages_list_equals_the_folders() -> None:
    assert set(settings()["packages"]) == folders()


def test_every_top_level_folder_is_mapped() -> None:
    mapped = settings()["package-dir"]
    assert mapped["pam_edge"] == "pam_edge"
    for top in SUBPACKAGES:
        assert mapped[f"pam_edge.{top}"] == top


@pytest.mark.parametrize("top", SUBPACKAGES)
def test_links_point_at_the_folders(top: str) -> None:
    link = ROOT / "pam_edge" / top
    if not link.is_symlink():
        pytest.skip("a checkout without links")
    assert link.readlink() == Path("..") / top


def test_the_folders_are_what_is_imported() -> None:
    import pam_edge.export
    import pam_edge.runtimes

    assert Path(pam_edge.export.__file__).resolve().parent == ROOT / "export"
    assert Path(pam_edge.runtimes.__file__).resolve().parent == ROOT / "runtimes"


def test_nothing_on_the_package_is_called_export() -> None:
    source = (ROOT / "pam_edge" / "__init__.py").read_text()
    assert "def export" not in source


def layers() -> list[set[str]]:
    return [set(row.split(" | ")) for row in contracts()["rooms import downwards only"]["layers"]]


def test_every_module_has_its_layer() -> None:
    modules = {
        f"pam_edge.{path.stem}" for path in (ROOT / "pam_edge").glob("*.py") if path.stem != "__init__"
    }
    assert set().union(*layers()) == modules | rooms() | {f"pam_edge.{top}" for top in SUBPACKAGES}


def test_the_whole_run_side_is_held_off_targets() -> None:
    """All that lies below `api`, and `api` itself; export and the command line lie above."""
    (row,) = (n for n, row in enumerate(layers()) if "pam_edge.api" in row)
    named = contracts()["the run side never imports targets"]["source_modules"]
    assert sorted(named) == sorted(set().union(*layers()[row:]) - {"pam_edge.targets"})


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_demo_s_bundle_is_made_again_when_nano_changed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    locks = {f"requirements/{name}.txt": 1 for name in ("uv", "run", "demo")}
    stamps = {".venv-uv/bin/uv": 1, ".venv/.run": 2, ".venv/.first": 2, ".venv/.demo": 2}
    times = {"pyproject.toml": 1, **locks, **stamps, "pam_edge/nano/model.safetensors": 3}

    def told(**bundle: int) -> str:
        made = {f"out/demo/nano/{name}.json": time for name, time in bundle.items()}
        for name, time in {**times, **made}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            os.utime(path, (time, time))
        command = ["make", "--dry-run", "demo", "VENV=.venv"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert "export --target cpu" in told()
    assert "export" not in told(bundle=4)
    times[".venv/.demo"] = 5  # an installation alone changes no weights
    assert "export" not in told(bundle=4)
    times["pam_edge/nano/model.safetensors"] = 6
    assert "--force -o out/demo/nano" in told(bundle=4)
