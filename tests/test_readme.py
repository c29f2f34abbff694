"""What the README shows of the commands is what they print; every file it points at is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from PIL import Image

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


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    from pam_edge.benchmarks import synthetic

    (tmp_path / "out" / "demo").mkdir(parents=True)
    Image.fromarray(synthetic.scene(339, split="heldout").image).save(tmp_path / "out" / "demo" / "scene.png")
    synthetic.write_clips(tmp_path, 7, 1, "heldout", video=True)
    (video,) = (tmp_path / "clips").glob("*.mp4")
    video.rename(tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "answer.png").is_file() and len(names["results"]) == 2 and names["words"]


def test_links_lead_somewhere() -> None:
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} points at {target}"
