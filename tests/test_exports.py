"""The command that measures exports: kills are real, a difference is seen; and weights in PAM's own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pam_edge.benchmarks.harness.result_lines import read_lines
from pam_edge.benchmarks.speed import exports
from pam_edge.bundle import builtin
from pam_edge.core.errors import EnvironmentProblem, IntegrityError
from pam_edge.export.checkpoint.checkpoint import open_checkpoint
from tools import real_format

# Stands for an export: a step every half a second, kept as it goes, and a small bundle at the end.
PROGRAM = f"""
import json, sys, time; from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
folder = Path(sys.argv[-1]); state = folder / "export.json"
folder.mkdir(parents=True, exist_ok=True)
starts = folder.parent / "starts"
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
done = json.loads(state.read_text())["steps"] if state.exists() else {{}}
for n in range(len(done), 6):
    time.sleep(0.5)
    done[str(n)] = n
    draft = state.with_suffix(".tmp"); draft.write_text(json.dumps(dict(steps=done))); draft.replace(state)
state.unlink()
from small_bundle import small_bundle
small_bundle(folder)
"""


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PROGRAM", PROGRAM)


def test_a_killed_export_is_gone_on_with_and_compared(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    words = [str(tmp_path), "--kills", "3", "--about", "3", "--rows", str(rows), "--", "--target", "cpu"]
    assert exports.main(words) == 0
    whole, killed = read_lines(rows, exports.ExportRow)
    assert whole.command == killed.command == "pam-edge export --target cpu"
    assert (whole.kills, whole.same_bytes) == ((), None)
    assert len(killed.kills) == 3 and killed.same_bytes is True
    assert (tmp_path / "starts").read_text() == "x" * 5, "each death is followed by a new start"
    assert whole.bundle == killed.bundle and whole.bundle_bytes == killed.bundle_bytes
    assert whole.wall_s > 0.5 and whole.cpu_s > 0
    assert (
        whole.peak_bytes > 10e6
    )  # at most, the kernel counts what a parent as large as pytest had at the fork
    (tmp_path / "killed" / "a.onnx").write_bytes(b"another")
    assert exports.digests(tmp_path / "killed") != exports.digests(tmp_path / "whole")


def test_a_difference_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second export leaves a file that the first has not."""
    monkeypatch.setattr(exports, "PROGRAM", PROGRAM + "\n(folder / starts.read_text()).write_text('')\n")
    rows = tmp_path / "rows.jsonl"
    words = [str(tmp_path), "--kills", "1", "--about", "0.5", "--rows", str(rows), "--", "--target", "cpu"]
    assert exports.main(words) == 4
    assert [row.same_bytes for row in read_lines(rows, exports.ExportRow)] == [None, False]


def test_an_export_that_fails_leaves_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "PROGRAM", "raise SystemExit(7)")
    words = [str(tmp_path), "--rows", str(tmp_path / "rows.jsonl"), "--", "--target", "cpu"]
    assert exports.main(words) == EnvironmentProblem.exit_code
    assert not (tmp_path / "rows.jsonl").exists()
    assert exports.main([str(tmp_path)]) == 2, "no arguments for the export"


def test_one_that_is_done_before_its_last_kill_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="of 2 kills"):
        exports.killed([], tmp_path / "killed", kills=2, like=tmp_path, about_s=100)


def test_a_damaged_result_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("{}\n")
    with pytest.raises(IntegrityError, match=r"line 1 is no ExportRow.*move the file away"):
        read_lines(tmp_path / "rows", exports.ExportRow)


def test_committed_rows_can_be_read() -> None:
    path = Path(__file__).parent.parent / exports.RESULTS
    rows = read_lines(path, exports.ExportRow)
    assert rows
    for row in rows:
        assert row.same_bytes is (True if row.kills else None), row.command


def test_weights_in_the_original_files_are_the_same_numbers(tmp_path: Path) -> None:
    """But for language and perceiver, which bfloat16 rounds."""
    drawn = open_checkpoint("random:nano")
    real_format.write(drawn, tmp_path / "out", shard=200_000)
    index = json.loads((tmp_path / "out" / "pam" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    read = open_checkpoint(
        str(tmp_path / "out" / "pam"),
        sam2=tmp_path / "out" / "sam2.pt",
        sam2_config=builtin.SAM2_CONFIG,
    )
    assert read.variant == drawn.variant
    assert sorted(read.keys()) == sorted(drawn.keys())
    for key in read.keys():  # noqa: SIM118  (no mapping)
        wanted = drawn.tensor(key)
        wanted = wanted if key.startswith("vision.") else wanted.bfloat16().float()
        assert torch.equal(read.tensor(key), wanted), key
