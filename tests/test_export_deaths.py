"""Exports killed at every kind of moment: what was finished survives, and the bytes are the same."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from command import PROGRAM, Result, finish, pam_edge, start
from exported import Exported, digests

from pam_edge.bundle.manifest import MANIFEST
from pam_edge.export.backends.onnxruntime import static_graphs
from pam_edge.export.driver.build import GRAPHS, build, plan
from pam_edge.export.driver.parts import recording
from pam_edge.export.driver.workspace import STATE
from pam_edge.export.graphs.image_graphs import STATELESS
from pam_edge.quantize import calibration
from pam_edge.quantize.calibration import drawn_samples

NANO_WORDS = ("export", "--target", "cpu", "--weights", "random:nano")
PRELUDE = """
import os, signal
def die():
    os.kill(os.getpid(), signal.SIGKILL)
def die_at_weight(number):
    import pam_edge.export.backends.onnxruntime.writer as m
    old, count = m.language2onnx, [0]
    def language2onnx(language, tensor, *args, **named):
        def counted(key):
            count[0] += 1
            return tensor(key) if count[0] < number else die()
        return old(language, counted, *args, **named)
    m.language2onnx = language2onnx
"""
LAYERED = (
    "import pam_edge.export.reference.golden as g; g.WHOLE_ANSWER = 0"  # nano recorded as large models are
)


def steps(*names: str) -> list[str]:
    """All that is kept of finished graphs."""
    return [each for name in names for each in (name, recording(name))]  # type: ignore[arg-type]


# Deaths in order, each a real SIGKILL at the named moment. What was finished before must survive it.
DEATHS = {
    "a graph's numbers recorded but not kept": (
        "import pam_edge.export.driver.build as m; m.save_recording = lambda *a: die()",
        [],
    ),
    "a graph recorded but not written": (
        "import pam_edge.export.backends.onnxruntime.writer as m; m.module2onnx = lambda *a, **k: die()",
        [recording("image_encoder")],
    ),
    "between moving a graph's files": (
        "import pathlib; old = pathlib.Path.replace\n"
        "pathlib.Path.replace = lambda a, b: die() if 'mask_decoder.onnx' in str(b) else old(a, b)",
        [*steps("image_encoder"), recording("mask_decoder")],
    ),
    "in the middle of the weights": (
        "die_at_weight(20)",
        [*steps(*STATELESS), recording("decoder")],
    ),
    "after the manifest, before the scratch files went": (
        "from pam_edge.export.driver.workspace import Workspace; Workspace.close = lambda self: die()",
        [*steps(*GRAPHS), "rest"],
    ),
}
# The same of the decoder alone, recorded layer by layer.
LAYERED_DEATHS = {
    "in the middle of a layer": (
        "import pam_edge.export.reference.layered as m; old = m._layer\n"
        "m._layer = lambda c, i: old(c, i) if i < 2 else die()",
        steps(*STATELESS),
    ),
    "in the middle of the weights": (
        "die_at_weight(7)",
        [*steps(*STATELESS), recording("decoder")],
    ),
}


def export(out: Path, patch: str = "") -> Result:
    return finish(start(*NANO_WORDS, "-o", out, program=f"{PRELUDE}\n{patch}\n{PROGRAM}"))


@pytest.mark.slow
def test_killed_at_every_kind_of_moment_it_ends_with_the_same_bytes(
    exported: Exported, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for moment, (patch, survived) in DEATHS.items():
        result = export(out, patch)
        assert result.code == -signal.SIGKILL, (moment, result)
        assert sorted(json.loads((out / STATE).read_text())["steps"]) == sorted(survived), moment
        if (out / MANIFEST).exists():
            assert survived[-1] == "rest"
        else:
            assert pam_edge("inspect", out).code == 6, "an unfinished export must not open"
    result = export(out)
    assert result.code == 0, result.err
    assert result.err.count("kept from before") == len(GRAPHS)
    assert digests(out) == digests(exported.bundle)


@pytest.mark.slow
def test_a_model_recorded_layer_by_layer_ends_with_the_same_bytes_too(
    exported: Exported, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        shutil.copytree(exported.half, folder)
    result = export(whole, LAYERED)
    assert result.code == 0, result.err
    for moment, (patch, survived) in LAYERED_DEATHS.items():
        result = export(killed, f"{LAYERED}\n{patch}")
        assert result.code == -signal.SIGKILL, (moment, result)
        assert sorted(json.loads((killed / STATE).read_text())["steps"]) == sorted(survived), moment
    result = export(killed, LAYERED)
    assert result.code == 0, result.err
    assert digests(killed) == digests(whole)
    assert digests(killed) != digests(exported.bundle), "it was recorded in another way"


class StoppedError(Exception):
    """Stands for whatever ends an export."""


def stop(*args: object, **named: object) -> None:
    raise StoppedError


@pytest.mark.slow
def test_a_recording_that_was_lost_is_made_again(exported: Exported, tmp_path: Path) -> None:
    """Its graph is done; what comes after still has to be recorded with what it gave."""
    out = tmp_path / "out"
    shutil.copytree(exported.half, out)
    path = out / recording("image_encoder")
    path.write_bytes(b"")

    def until_next(name: str, part: float | None) -> None:
        if name == "mask_decoder":
            raise StoppedError

    with pytest.raises(StoppedError):
        build(plan("random:nano", target="cpu"), out, report=until_next)
    assert path.read_bytes() == (exported.half / path.name).read_bytes()
    assert "image_encoder" in json.loads((out / STATE).read_text())["steps"]


@pytest.mark.slow
def test_a_calibration_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image graphs in 8 bits, stopped before, in and after the calibration: files as if never stopped."""
    settled = plan(
        "random:nano", target="cpu", scheme="int8", samples=lambda opened: drawn_samples(256, count=2)
    )

    def until_memory(name: str, part: float | None) -> None:
        if name == "memory_encoder":
            raise StoppedError

    def make(folder: Path) -> None:
        with pytest.raises(StoppedError):
            build(settled, folder, report=until_memory)

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    make(whole)
    written, write = [0], calibration._write

    def third_fails(path: Path, arrays: calibration.Arrays) -> None:
        written[0] += 1
        if written[0] == 3:
            path.with_suffix(".part").write_bytes(b"half of it")
            raise StoppedError
        write(path, arrays)

    for module, name, how in (
        (static_graphs, "calibrate", stop),
        (calibration, "_write", third_fails),
        (static_graphs, "quantize_static", stop),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, how)
            make(stopped)
    steps = json.loads((stopped / STATE).read_text())["steps"]
    assert sorted(steps) == ["float-image_encoder.onnx", recording("image_encoder")]
    looks = sorted(stopped.glob("calibration-*/image_encoder-*.npz"))
    assert len(looks) == 4, "two pictures, what was seen and what the next graph reads"
    times = [path.stat().st_mtime_ns for path in looks]
    make(stopped)
    assert [path.stat().st_mtime_ns for path in looks] == times, "nothing is looked at twice"
    assert every_file(stopped) == every_file(whole)


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
