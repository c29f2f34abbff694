"""What is installed is what lies in the folders, and every way of seeing the tree sees the same one."""

from __future__ import annotations

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


def folders() -> set[str]:
    found = {"pam_edge"}
    for top in SUBPACKAGES:
        for init in (ROOT / top).rglob("__init__.py"):
            found.add("pam_edge." + ".".join(init.parent.relative_to(ROOT).parts))
    return found


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
