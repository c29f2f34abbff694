"""Exports to trust: forecast, resumed after any death, always the same bytes, verified, refused in time."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from command import PROGRAM, finish, pam_edge, start
from exported import Exported, digests

from pam_edge.bundle import golden as thinning
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.config import NANO, PAM_1_5B, PAM_3B, Variant
from pam_edge.bundle.golden import Golden
from pam_edge.bundle.manifest import MANIFEST
from pam_edge.core import system_info
from pam_edge.core.errors import UsageError, WontFitError
from pam_edge.export.checkpoint.checkpoint import expected_shapes
from pam_edge.export.checkpoint.fingerprint import fingerprint
from pam_edge.export.driver.build import build, plan
from pam_edge.export.driver.forecast import Forecast, check_fits, forecast
from pam_edge.export.reference import golden as recording
from pam_edge.quantize.schemes import FP32, scheme_named
from pam_edge.verify.verify import verify

if TYPE_CHECKING:
    from golden.seeded import GoldenFolder

NANO_WORDS = ("export", "--target", "cpu", "--weights", "random:nano")


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(exported: Exported, tmp_path: Path) -> None:
    shutil.copytree(exported.half, tmp_path / "out")
    program = "import pam_edge.export.checkpoint.checkpoint as m, time; old = m.load_language\n"
    program += "import pam_edge.export.driver.parts as p; p.load_language = lambda c: time.sleep(60)\n"
    process = start(*NANO_WORDS, "-o", tmp_path / "out", program=program + PROGRAM)
    assert process.stderr is not None
    while "perceiver" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    result = finish(process)
    assert result.code == 130
    assert "the same command goes on" in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "out" / MANIFEST).exists()
    assert pam_edge(*NANO_WORDS, "-o", tmp_path / "out").code == 0
    assert digests(tmp_path / "out") == digests(exported.bundle)


@pytest.mark.slow
def test_a_disk_that_fills_up_is_told_and_the_export_goes_on_when_there_is_room(
    exported: Exported, tmp_path: Path
) -> None:
    """The system refuses to let any file grow beyond 3 MB, in the middle of the decoder's weights."""
    shutil.copytree(exported.half, tmp_path / "out")
    small = 3 << 20
    limited = subprocess.run(
        [sys.executable, "-c", PROGRAM, *NANO_WORDS, "-o", tmp_path / "out"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (small, small)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert limited.returncode == 7, limited.stderr
    assert "free some space" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert pam_edge("inspect", tmp_path / "out").code == 6
    assert pam_edge(*NANO_WORDS, "-o", tmp_path / "out").code == 0
    assert digests(tmp_path / "out") == digests(exported.bundle)


def test_no_path_of_this_machine_is_in_the_files(exported: Exported) -> None:
    for path in exported.bundle.iterdir():
        raw = path.read_bytes()
        for place in (str(exported.bundle), str(Path(__file__).parent.parent), str(Path.home()), sys.prefix):
            assert place.encode() not in raw, (path.name, place)


def test_the_bundle_is_what_was_asked_for(exported: Exported) -> None:
    manifest = Bundle.open(exported.bundle).manifest
    assert manifest.variant == NANO
    assert (manifest.target, manifest.runtime, manifest.scheme) == ("cpu", "onnxruntime", "fp32")
    assert manifest.weights.kind == "random"
    assert {"torch", "onnx", "pam-edge"} <= set(manifest.tools)
    assert manifest.verification is not None and manifest.verification.ok
    named = {*manifest.files(), MANIFEST}
    assert {path.name for path in exported.bundle.iterdir()} == named, "nothing is left that nobody names"
    assert manifest.golden.bytes < 3_000_000
    files = {graph.name: [ref.path for ref in graph.files] for graph in manifest.graphs}
    assert files["decoder"] == ["decoder.onnx", "decoder.bin", "embedding.bin"]
    assert all(names[0].endswith(".onnx") for names in files.values())


def test_another_seed_gives_another_bundle_and_needs_force(exported: Exported, tmp_path: Path) -> None:
    shutil.copytree(exported.half, tmp_path / "out")
    result = pam_edge(*NANO_WORDS, "--seed", "1", "-o", tmp_path / "out")
    assert result.code == 2
    assert "seed: 0, now 1" in result.err
    assert digests(tmp_path / "out") == digests(exported.half)


def test_a_finished_bundle_is_not_overwritten(exported: Exported, tmp_path: Path) -> None:
    folder = exported.copy(tmp_path / "out")
    before = digests(folder)
    result = pam_edge(*NANO_WORDS, "-o", folder)
    assert result.code == 2
    assert "--force" in result.err
    assert digests(folder) == before


def test_a_dry_run_tells_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = pam_edge("export", "--target", "cpu", "--weights", "random:pam-1.5b", "--dry-run")
    assert result.code in (0, 7)  # 7 where this machine is too small for it
    assert "GB of disk" in result.out
    assert "untrained" in result.err
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_refused_with_the_numbers_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_info, "available_memory", lambda: 10**9 // 2)
    result = pam_edge(*NANO_WORDS, "-o", tmp_path / "out")
    assert result.code == 7
    assert "500.0 MB are free" in result.err
    monkeypatch.setattr(system_info, "available_memory", lambda: None)
    monkeypatch.setattr(system_info, "free_disk", lambda path: 10_000_000)
    result = pam_edge(*NANO_WORDS, "-o", tmp_path / "out")
    assert result.code == 7
    assert "10.0 MB are free" in result.err
    assert not (tmp_path / "out").exists()


def test_an_interrupted_export_s_own_files_count_as_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = Forecast(disk=1000, memory={"x": 1})
    monkeypatch.setattr(system_info, "free_disk", lambda path: 600)
    with pytest.raises(WontFitError):
        check_fits(needs, tmp_path)
    (tmp_path / "made").write_bytes(bytes(500))
    check_fits(needs, tmp_path)


def test_the_forecast_of_disk_holds(exported: Exported) -> None:
    size = Bundle.open(exported.bundle, check=False).total_bytes
    scratch = sum(path.stat().st_size for path in exported.half.glob("recorded-*"))
    told = forecast(NANO, expected_shapes(NANO), FP32).disk
    assert size + scratch <= told <= size + scratch + 50e6


@pytest.mark.parametrize(
    ("variant", "scheme", "disk", "memory"),
    [
        (PAM_1_5B, "fp32", 7.1, None),
        (PAM_3B, "fp32", 13.2, None),
        (PAM_1_5B, "int4", None, 3.0),
        (PAM_3B, "int4", None, 3.15),
    ],
)
def test_the_forecast_of_large_models(
    variant: Variant, scheme: str, disk: float | None, memory: float | None
) -> None:
    """Against what exports took when they were measured, in GB."""
    told = forecast(variant, expected_shapes(variant), scheme_named(scheme))
    if disk is not None:
        assert disk <= told.disk / 1e9 <= disk * 1.1
    if memory is not None:
        assert memory <= told.peak / 1e9 <= memory * 1.25
    assert told.peak < 24e9


def test_the_forecast_follows_the_scheme() -> None:
    """Matrices take half, vectors what they took; memory is float32 in either."""
    shapes = {"language.a": (4000, 5000), "language.b": (3000,), "vision.mask_downsample.c": (4000, 5000)}
    whole, half = (forecast(NANO, shapes, scheme_named(name)) for name in ("fp32", "fp16"))
    assert whole.disk - half.disk == 2 * 4000 * 5000
    assert whole.memory == half.memory


def test_a_plan_forecasts_for_its_own_scheme() -> None:
    whole, half = (plan("random:nano", target="cpu", scheme=name).needs.disk for name in ("fp32", "fp16"))
    assert whole > half


def test_available_memory_is_the_least_of_machine_and_groups(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 8000 kB\nMemAvailable:    4000 kB\n")
    (proc / "self" / "cgroup").write_text("0::/a/b\n4:memory:/old\n9:name=systemd:/\n")
    assert system_info.available_memory(proc=proc, groups=groups) == 4000 * 1024
    for place, limit, used, dropped in (("a", "3000", 2000, 500), ("a/b", "max", 1, 0)):
        (groups / place).mkdir(parents=True)
        (groups / place / "memory.max").write_text(limit + "\n")
        (groups / place / "memory.current").write_text(f"{used}\n")
        (groups / place / "memory.stat").write_text(f"anon 5\ninactive_file {dropped}\n")
    assert system_info.available_memory(proc=proc, groups=groups) == 1500
    old = groups / "memory" / "old"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("1000")
    (old / "memory.usage_in_bytes").write_text("900")
    (old / "memory.stat").write_text("total_inactive_file 100")
    assert system_info.available_memory(proc=proc, groups=groups) == 200
    (old / "memory.limit_in_bytes").write_text(str(2**63 - 4096))
    assert system_info.available_memory(proc=proc, groups=groups) == 1500


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_freed_memory_goes_back_to_the_system() -> None:
    """Blocks too small for mappings of their own, all freed but the last: the C library keeps the others."""

    def resident() -> int:
        fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0]) * 1024

    system_info.return_freed_memory()
    blocks = [bytearray(100_000) for _ in range(2000)]
    last = blocks.pop()
    held = resident()
    del blocks
    system_info.return_freed_memory()
    assert held - resident() > 150e6
    assert len(last) == 100_000


def test_golden_records_the_region_it_clicks(exported: Exported) -> None:
    """The picture, three cases, a whole answer; every case's object is there, so its mask is no constant."""
    bundle = Bundle.open(exported.bundle)
    golden = Golden(bundle.path(bundle.manifest.golden))
    assert golden.meta.cases == ("click", "box", "mask")
    assert golden.meta.answer is not None
    assert len(golden.meta.answer.token_ids) >= 4
    for case in golden.meta.cases:
        assert golden.array(f"mask_decoder/{case}/object_score", np.float32, 1)[0] > 0
        masks = golden.array(f"mask_decoder/{case}/masks", np.float32, None)
        assert masks.min() < masks.max()
    scenes = [recording.picture(size) for size in (64, 256)]
    assert [scene.shape for scene in scenes] == [(64, 64, 3), (256, 256, 3)]


def test_thinning_falls_in_step_with_no_axis() -> None:
    for shape in ((1, 256, 64, 64), (1, 3, 1024, 1024), (1, 1042, 1536), (7,), (1, 2, 96)):
        stride = thinning._stride(shape)
        assert -(-int(np.prod(shape)) // stride) <= thinning.SAMPLES
        assert stride == 1 or all(np.gcd(stride, axis) == 1 for axis in shape)


def test_a_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(3 << 20))
    first = fingerprint(tmp_path)
    assert first == fingerprint(tmp_path)
    (tmp_path / "b").write_bytes(b"")
    assert fingerprint(tmp_path) != first
    (tmp_path / "b").unlink()
    with (tmp_path / "a").open("r+b") as f:
        f.seek(-1, 2)
        f.write(b"x")
    assert fingerprint(tmp_path) != first


@pytest.mark.slow
def test_a_pam_folder_goes_in_and_the_original_s_answers_come_out(
    golden_folder: GoldenFolder, golden: dict[str, npt.NDArray[np.int64]], tmp_path: Path
) -> None:
    """The whole product on the seeded reference checkpoint: both tasks of a box, in one run."""
    words = ["--weights", golden_folder.weights, "--sam2", golden_folder.sam2]
    words += ["--sam2-config", golden_folder.sam2_config]
    result = pam_edge("export", "--target", "cpu", *words, "-o", tmp_path / "out")
    assert result.code == 0, result.err
    assert "from files" in pam_edge("inspect", tmp_path / "out").out
    frame = Path(__file__).parent / "golden" / "frames" / "00000.png"
    asked = ["--box", "60,70,140,150", "--task", "recognize,explain", "--max-tokens", "12", "--json"]
    document = json.loads(pam_edge("run", tmp_path / "out", frame, *asked).out)
    for answer in document["answers"]:
        assert answer["token_ids"] == golden[f"box/{answer['task']}/greedy_ids"].tolist()
    assert document["object_score"] == pytest.approx(golden["box/object_score_logits"].item(), abs=1e-4)


def test_default_output_and_options_are_settled_early(tmp_path: Path) -> None:
    settled = plan("random:nano", target="cpu", seed=3)
    assert settled.options["seed"] == "3"
    assert settled.options["scheme"] == "fp32"
    for wrong in ({"target": "toaster"}, {"target": "cpu", "scheme": "int1"}):
        with pytest.raises(UsageError):
            plan("random:nano", **wrong)
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError):
        build(settled, tmp_path)


def test_an_absent_engine_leaves_the_verification_to_the_device(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pam_edge.core.errors import EnvironmentProblem
    from pam_edge.export.driver import finish as module

    def absent(bundle: Bundle, *, progress: object) -> None:
        raise EnvironmentProblem("no such engine here")

    shutil.copytree(exported.half, tmp_path / "out")
    monkeypatch.setattr(module, "verify", absent)
    result = pam_edge(*NANO_WORDS, "-o", tmp_path / "out")
    assert result.code == 0
    assert "not run here" in result.out
    bundle = Bundle.open(tmp_path / "out")
    assert bundle.manifest.verification is None
    assert verify(bundle).ok
