"""The command that measures beside others: its machinery on small objects; no peer is installed here."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_rows import HERE, ROW

from pam_edge.benchmarks.competitors import __main__ as command
from pam_edge.benchmarks.competitors import genai_model
from pam_edge.benchmarks.competitors.answers import _same
from pam_edge.benchmarks.competitors.bundles import decoder_bytes
from pam_edge.benchmarks.competitors.job import Job, Subject, Who, figure
from pam_edge.benchmarks.competitors.ours import Ours
from pam_edge.benchmarks.competitors.pins import PINS
from pam_edge.benchmarks.harness import scene
from pam_edge.benchmarks.harness.machine import Ticks
from pam_edge.benchmarks.harness.rows import Row, against, read_rows
from pam_edge.benchmarks.harness.table import markdown
from pam_edge.benchmarks.harness.turns import Side, take_turns
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.bundle import builtin
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import EnvironmentProblem

ECHO = """
import os, signal, sys, time
from pam_edge.benchmarks.harness.worker import serve
def fail(asked): raise ValueError("no such object")
serve({
    "double": lambda asked: 2 * asked["n"], "fail": fail, "end": lambda asked: os._exit(3),
    "noise": lambda asked: [os.write(1, b"noise"), print("more", flush=True)][0],
    "sleep": lambda asked: time.sleep(60), "now": lambda asked: time.monotonic_ns(),
})
"""


def echo(tmp_path: Path) -> Worker:
    return Worker("echo", [sys.executable, "-c", ECHO], log=tmp_path / "logs" / "echo.txt")


def test_a_worker_answers_fails_and_answers_again(tmp_path: Path) -> None:
    with echo(tmp_path) as worker:
        assert worker.ask("double", {"n": 21}) == 42
        with pytest.raises(EnvironmentProblem, match="echo: ValueError: no such object"):
            worker.ask("fail")
        assert worker.ask("noise") == 5  # what a library prints is no answer
        assert worker.ask("double", {"n": 1}) == 2
    assert b"noise" in (tmp_path / "logs" / "echo.txt").read_bytes()


def test_a_worker_that_ends_or_hangs_says_so(tmp_path: Path) -> None:
    with echo(tmp_path) as worker:
        with pytest.raises(EnvironmentProblem, match="ended with 3"):
            worker.ask("end")
        with pytest.raises(EnvironmentProblem, match="Broken pipe"):
            worker.ask("double", {"n": 1})
    with echo(tmp_path) as worker, pytest.raises(EnvironmentProblem, match="no answer within"):
        worker.ask("sleep", seconds=0.2)
    with pytest.raises(EnvironmentProblem, match="cannot be started"):
        Worker("none", [str(tmp_path / "none")], log=tmp_path / "log")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_resting_worker_takes_no_time(tmp_path: Path) -> None:
    with echo(tmp_path) as worker:
        worker.ask("double", {"n": 1})
        worker.rest()
        ends = time.monotonic() + 5
        state = Path(f"/proc/{worker.pid}/stat")
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < ends, "it was not stopped"
        assert worker.ask("double", {"n": 2}) == 4
        worker.rest()
        pid = worker.pid
    with pytest.raises(ProcessLookupError):  # a stopped one is closed too
        os.kill(pid, 0)


def test_sides_take_turns_and_a_failing_one_drops_out(tmp_path: Path) -> None:
    order: list[str] = []
    with echo(tmp_path) as worker:

        def turn(name: str, fails_at: int = 99) -> Any:
            def take() -> dict[str, list[int]]:
                order.append(name)
                if order.count(name) > fails_at:
                    raise EnvironmentProblem("enough")
                return {"decode": [worker.ask("double", {"n": len(order)})]}

            return take

        sides = [Side("a", worker, turn("a")), Side("b", worker, turn("b", fails_at=2))]
        take_turns(sides, rounds=3, warmup=1, tell=lambda text: None)
    assert order == ["a", "b", "a", "b", "a", "b", "a"]
    assert sides[0].samples == {"decode": [6, 10, 14]}  # the warm-up's 2 does not count
    assert sides[1].samples == {} and sides[1].error == "enough"
    assert sides[0].load is None or 0 <= sides[0].load.others_mean <= 1


def job(tmp_path: Path, **changed: Any) -> Job:
    told = {"prompt": 8, "tokens": 4, "answer_tokens": 3, "rounds": 2, "warmup": 0, "threads": 2}
    fixed: dict[str, Any] = {"cache": tmp_path, "bundles": (), "peers": (), "machine": HERE}
    state = {"commit": "c" * 40, "dirty": False, "tell": lambda text: None}
    return Job(**{**fixed, **told, **state, **changed})


def test_a_row_without_samples_gives_a_reason(tmp_path: Path) -> None:
    about, who = Subject("encoder", "nano", {"pictures": "1"}), Who("pytorch", "fp32", "pytorch")
    row = figure(job(tmp_path), about, who, measure="encode")
    assert row.error == "no sample" and row.stats is None
    assert figure(job(tmp_path), about, who, measure="encode", samples=[3, 5], error="").stats is not None


def test_the_table_shows_ratios_goals_failures_and_conditions() -> None:
    ours, theirs = (20_000_000, 22_000_000, 21_000_000), (40_000_000, 42_000_000, 41_000_000)
    rows = [
        msgspec.structs.replace(ROW, figures={"tokens_per_s": 47.6}),
        msgspec.structs.replace(ROW, samples=ours, against=against(ours, theirs, side="llama.cpp", goal=1.0)),
        msgspec.structs.replace(ROW, samples=ours, against=against(ours, theirs, side="slow", goal=4.0)),
        msgspec.structs.replace(ROW, side="openvino", samples=(), stats=None, error="no | such\npackage"),
    ]
    text = markdown(rows)
    assert "| 1.95 x | 1.91 to 2.00 | >= 1 x | reached |" in text
    assert "| >= 4 x | short by 51% |" in text
    assert "| openvino | int4 | prompt 1070 | not measured |  | no / such package |" in text
    assert "47.6 tokens per s" in text and "reads 36.0 GB/s" in text and "prompt 1070" in text
    assert all(line.count("|") == 11 for line in text.splitlines() if line.startswith("| nano | decode | o"))
    assert markdown([]) == "No rows yet."


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        ({}, True),
        ({"commit": "d" * 40}, False),
        ({"dirty": True}, False),
        ({"error": "failed"}, False),
        ({"threads": 1}, False),
        ({"settings": {"prompt": "9"}}, False),
        ({"scheme": "int8"}, False),
    ],
)
def test_what_the_file_holds_is_not_measured_again(
    tmp_path: Path, changed: dict[str, Any], held: bool
) -> None:
    about = Subject("decoder", "nano", {"prompt": "1070"})
    rows = [
        msgspec.structs.replace(ROW, **changed),
        msgspec.structs.replace(ROW, side="llama.cpp", scheme="Q4_0"),
    ]
    assert command.is_held(job(tmp_path), rows, about, "int4", ["pam-edge", "llama.cpp"]) is held
    assert not command.is_held(job(tmp_path), rows, about, "int4", ["pam-edge", "pytorch"])
    assert not command.is_held(job(tmp_path, dirty=True), rows, about, "int4", ["pam-edge"])


def test_a_busy_machine_measures_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readings = iter([Ticks(0, 0, 0, 0), Ticks(600, 300, 0, 0)])
    monkeypatch.setattr("pam_edge.benchmarks.harness.machine.Ticks.read", lambda pids: next(readings))
    monkeypatch.setattr("pam_edge.benchmarks.harness.machine.time.sleep", lambda seconds: None)
    assert command.main(["--out", str(tmp_path / "rows.jsonl"), "--cache", str(tmp_path)]) == 3
    assert "busy" in capsys.readouterr().err
    assert not (tmp_path / "rows.jsonl").exists()


@pytest.mark.parametrize("wrong", [["--only", "all"], ["--peers", "us"], ["--rounds", "0"]])
def test_options_are_checked_first(tmp_path: Path, wrong: list[str]) -> None:
    assert command.main(["--out", str(tmp_path / "rows.jsonl"), *wrong]) == 2


def test_nano_s_clicks_are_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real command, our side alone: rows, counters, and the table made of them."""
    monkeypatch.setattr(command, "read_bandwidth", lambda threads: ([1000, 1000], 4096))
    out = tmp_path / "rows.jsonl"
    held = Bundle.open(builtin.BUNDLE).manifest
    options = ["--only", "clicks", "--variants", "nano", "--scheme", held.scheme, "--peers", "none"]
    small = ["--rounds", "1", "--warmup", "0", "--answer-tokens", "2", "--busy"]
    given = [*options, *small, "--cache", str(tmp_path), "--out", str(out), "--bundle", str(builtin.BUNDLE)]
    assert command.main(given) == 0
    rows = {(row.part, row.measure): row for row in read_rows(out)}
    later = rows["clicks", "later click"]
    assert len(later.samples) == 9 and not later.error and later.bundle == held.sha256
    assert later.figures["image_misses"] == 1 and later.figures["image_hits"] == 10
    assert later.figures["prefix_hits"] == 1 and later.figures["prefix_misses"] == 10
    assert "later click" in markdown(list(rows.values()))


def test_one_flow_and_four_calls_say_the_same() -> None:
    ours = Ours(builtin.BUNDLE, 2)
    asked = {"tasks": list(scene.TASKS), "tokens": 24}
    once, apart = ours.once(asked), ours.apart(asked)
    assert [len(said) for said in once["said"]] == [24] * 4  # stop tokens are ignored
    assert once["said"] == apart["said"] and _same(once["said"], apart["said"]) == 1.0
    turn = ours.turn({"tokens": list(range(40)), "steps": 3})
    assert turn["prefill"][0] > 0 and turn["decode"][0] > 0
    assert decoder_bytes(ours.bundle) < ours.bundle.total_bytes


def test_shares_of_equal_tokens_end_at_the_first_difference() -> None:
    assert _same([[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 9, 4], [5, 6, 7, 8]]) == 0.75


def test_every_pin_names_one_release() -> None:
    assert len({pin.name for pin in PINS}) == len(PINS)
    for pin in PINS:
        mark = "==" if pin.registry == "pip" else "@"
        assert all(package.rpartition(mark)[2][0].isdigit() for package in pin.packages), pin


def layered(folder: Path, scales: list[float]) -> None:
    """x times the scales of three layers, then a head; named as the model builder names objects."""
    names = [f"model.layers.{i}.weight" for i in range(3)]
    nodes, x = [helper.make_node("Mul", ["x", "head"], ["/model/embed/output"], name="/model/embed/Mul")], ""
    x = "/model/embed/output"
    for i, name in enumerate(names):
        out = f"/model/layers.{i}/Mul/output"
        nodes.append(helper.make_node("Mul", [x, name], [out], name=f"/model/layers.{i}/Mul"))
        present = helper.make_node("Add", [out, f"past_key_values.{i}.key"], [f"present.{i}.key"])
        present.name = f"/model/layers.{i}/Add"
        nodes.append(present)
        x = out
    nodes.append(helper.make_node("Mul", [x, "head"], ["logits"], name="/lm_head/Mul"))
    value = helper.make_tensor_value_info
    past = [value(f"past_key_values.{i}.key", TensorProto.FLOAT, [1]) for i in range(3)]
    present = [value(f"present.{i}.key", TensorProto.FLOAT, [1]) for i in range(3)]
    weights = [
        numpy_helper.from_array(np.array([s], np.float32), n) for s, n in zip(scales, names, strict=True)
    ]
    weights.append(numpy_helper.from_array(np.array([2], np.float32), "head"))
    graph = helper.make_graph(
        nodes,
        "layered",
        [value("x", TensorProto.FLOAT, [1]), *past],
        [value("logits", TensorProto.FLOAT, [1]), *present],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    config = {"model": {"decoder": {"num_hidden_layers": 3}}}
    (folder / "genai_config.json").write_text(json.dumps(config))


def test_the_middle_layer_is_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    layered(folder, [3, 5, 7])
    genai_model.lengthen(folder, 6)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    feeds = {arg.name: np.zeros(1, np.float32) for arg in session.get_inputs()}
    assert set(feeds) == {"x", *(f"past_key_values.{i}.key" for i in range(6))}
    found = dict(
        zip(
            [o.name for o in session.get_outputs()],
            session.run(None, {**feeds, "x": np.ones(1, np.float32)}),
            strict=True,
        )
    )
    assert found["logits"] == 2 * 3 * 5**4 * 7 * 2
    assert [float(found[f"present.{i}.key"][0]) for i in range(6)] == [6, 30, 150, 750, 3750, 26250]
    assert (
        json.loads((folder / "genai_config.json").read_text())["model"]["decoder"]["num_hidden_layers"] == 6
    )
    model = onnx.load(folder / "model.onnx")
    assert {w.name for w in model.graph.initializer} == {
        "head",
        *(f"model.layers.{i}.weight" for i in range(6)),
    }


def test_llama_cpp_s_file_has_its_own_types_and_sizes(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    from pam_edge.benchmarks.competitors import gguf_file

    config = {"hidden_size": 256, "heads": 4, "kv_heads": 2, "head_dim": 64, "mlp": 512, "layers": 2}
    more = {"vocab_size": 300, "max_length": 64, "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tied": True}
    path = tmp_path / "model.gguf"
    total = gguf_file.write({**config, **more}, path)
    layer = (256 * 256 * 2 + 256 * 128 * 2 + 3 * 256 * 512) * 18 // 32 + 4 * (256 + 128 * 2 + 256 * 2)
    assert total == 300 * 256 // 256 * 210 + 4 * 256 + 2 * layer
    held = {t.name: t for t in gguf.GGUFReader(path).tensors}
    assert held["token_embd.weight"].tensor_type.name == "Q6_K"
    assert sum(t.n_bytes for t in held.values()) == total
    values = gguf.dequantize(held["blk.0.ffn_up.weight"].data, held["blk.0.ffn_up.weight"].tensor_type)
    assert 0.5 < values.std() * np.sqrt(256) / 1.5 < 2
    table = gguf.dequantize(held["token_embd.weight"].data, held["token_embd.weight"].tensor_type)
    assert 0.5 < table.std() * np.sqrt(256) / 1.5 < 2


def test_rows_are_of_one_kind() -> None:
    assert msgspec.json.decode(msgspec.json.encode(ROW), type=Row) == ROW
