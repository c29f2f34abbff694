"""Every script in examples/ runs on rendered scenes with nano, and prints what it is there to print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pam_edge.benchmarks import synthetic
from pam_edge.benchmarks.synthetic import Clip, Scene
from pam_edge.image.masks import bounds

EXAMPLES = Path(__file__).parents[1] / "examples"
LIMIT = 60  # seconds: well above the 10 an example may take here, since other work shares the machine


@pytest.fixture(scope="module")
def scene() -> Scene:
    return synthetic.scene(339, split="heldout")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return synthetic.clip(synthetic.nth_seed(7, 0), split="heldout", segment_frames=8)


@pytest.fixture(scope="module")
def place(scene: Scene, clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`scene.png`, `photos/`, `frames/`, `slice.png` of 16 bits."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("photos", "frames"):
        (folder / name).mkdir()
    Image.fromarray(scene.image).save(folder / "scene.png")
    for i in range(2):
        Image.fromarray(synthetic.scene(synthetic.nth_seed(3, i)).image).save(folder / "photos" / f"{i}.png")
    for i, frame in enumerate(clip.frames[:10]):
        Image.fromarray(frame).save(folder / "frames" / f"{i:03d}.png")
    grey = scene.image.mean(axis=2)
    Image.fromarray((grey * 8 + 1000).astype(np.uint16)).save(folder / "slice.png")
    return folder


def example(name: str, *args: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def corners(mask: np.ndarray) -> str:
    box = bounds(mask)
    assert box is not None
    return ",".join(map(str, box))


def test_picture(scene: Scene, place: Path) -> None:
    obj = scene.objects[0]
    x, y = synthetic.centre_click(obj.mask)
    said = example("picture", "scene.png", "--point", f"{x},{y}", cwd=place)
    assert f"recognize: {synthetic.category(obj.kind, 'en')}" in said
    assert "colour: " in said and (place / "answer.png").is_file()


def test_clip(clip: Clip, place: Path) -> None:
    said = example("clip", "frames", "--box", corners(clip.masks[0]), cwd=place).splitlines()
    assert len(said) == 11 and said[0].startswith("0 (") and said[-1].endswith(".")


def test_batch(scene: Scene, place: Path) -> None:
    boxes = " ".join(corners(obj.mask) for obj in scene.objects[:4])
    said = example("batch", "scene.png", "--boxes", boxes, cwd=place).splitlines()
    assert len(said) == 5 and all(line.endswith(".") for line in said[:4]) and (place / "batch.png").is_file()


@pytest.mark.slow
def test_calibration(float_nano: Path, place: Path) -> None:
    said = example(
        "calibration", str(float_nano), "photos", "--count", "2", "--scheme", "int8", "-o", "small", cwd=place
    )
    assert "MB became" in said and (place / "small" / "bundle.json").is_file()


def test_surveillance(clip: Clip, place: Path) -> None:
    lines = example("surveillance", "frames", "--box", corners(clip.masks[0]), cwd=place).splitlines()
    events = [json.loads(line) for line in lines]
    assert events[0] == {"frame": 0, "object": 1, "event": "in sight"}
    assert any("until" in event and event["event"].endswith(".") for event in events)


def test_robot_camera(clip: Clip, place: Path) -> None:
    x, y = synthetic.centre_click(clip.masks[0])
    said = example("robot_camera", "frames", "--point", f"{x},{y}", cwd=place).splitlines()
    assert len(said) == 10 and said[0].startswith("0: steer ")
    left, _, right, _ = bounds(clip.masks[0])
    middle = (left + right) / clip.frames.shape[2] - 1
    assert abs(float(said[0].split()[2].rstrip(",")) - middle) < 0.1


def test_media_index(place: Path) -> None:
    example("media_index", "photos", "--index", "index.jsonl", cwd=place)
    lines = [json.loads(line) for line in (place / "index.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["picture"] for line in lines} == {"0.png", "1.png"}
    word = lines[0]["text"].rstrip(".").split()[-1]
    found = example("media_index", "photos", "--index", "index.jsonl", "--search", word, cwd=place)
    assert lines[0]["text"] in found and "qwertz" not in found
    assert example("media_index", "photos", "--index", "index.jsonl", "--search", "qwertz", cwd=place) == ""


def test_medical_window(scene: Scene, place: Path) -> None:
    obj = scene.objects[0]
    window = ("--level", "2020", "--width", "2040")
    said = example("medical_window", "slice.png", *window, "--box", corners(obj.mask), cwd=place)
    mask = np.asarray(Image.open(place / "mask.png"))
    assert mask.shape == obj.mask.shape and set(np.unique(mask)) == {0, 255}
    assert f"area {int((mask > 0).sum())} pixels" in said
    overlap = ((mask > 0) & obj.mask).sum() / ((mask > 0) | obj.mask).sum()
    assert overlap > 0.5


def test_ar_annotation(clip: Clip, place: Path) -> None:
    x, y = synthetic.centre_click(clip.masks[0])
    began = time.perf_counter()
    said = example("ar_annotation", "frames", "--click", f"0:{x},{y}", "--rate", "50", cwd=place)
    assert time.perf_counter() - began < LIMIT
    frames = sorted((place / "overlay").iterdir())
    assert frames and f"{len(frames)} frames shown" in said and ("frame" in said.splitlines()[0])
    assert frames[-1].name == "000009.png"  # the newest is never passed over


def test_every_example_has_a_test() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == {name.removeprefix("test_") for name in globals() if name.startswith("test_")} - {
        "every_example_has_a_test"
    }
