"""What the README shows of the commands is what they print; every file it points at is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_generated_blocks_are_fresh() -> None:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "tools" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    text = readme.README.read_text(encoding="utf-8")
    assert "<!-- begin: pam-edge run --help -->" in text
    assert "<!-- begin: table schemes -->" in text
    assert readme.rendered(text) == text, "run `make docs`"


def test_links_lead_somewhere() -> None:
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} points at {target}"
