"""The command that measures beside others: its machinery on small models; no peer is installed here."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from echo_requests import Double, End, Fail, Noise, Sleep, Unknown, Wrong
from onnx import TensorProto, helper, numpy_helper
from test_rows import HERE, ROW

from pam_edge.benchmarks.competitors import __main__ as command
from pam_edge.benchmarks.competitors import genai_model
from pam_edge.benchmarks.competitors.answers import _same
from pam_edge.benchmarks.competitors.bundles import decoder_bytes
from pam_edge.benchmarks.competitors.job import Job
from pam_edge.benchmarks.competitors.ours import Ours
from pam_edge.benchmarks.competitors.pins import PINS
from pam_edge.benchmarks.competitors.requests import Answer, Decode
from pam_edge.benchmarks.harness import row_builder, scene
from pam_edge.benchmarks.harness.iterations import Side, Started, interleave, open_sides
from pam_edge.benchmarks.harness.machine import Ticks
from pam_edge.benchmarks.harness.messages import Iteration
from pam_edge.benchmarks.harness.row_builder import Conditions, Subject, Who, make_row
from pam_edge.benchmarks.harness.rows import Row, against, read_rows
from pam_edge.benchmarks.harness.table import markdown
from pam_edge.benchmarks.harness.worker import Worker
from pam_edge.bundle import builtin
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import EnvironmentProblem, UsageError

ECHO = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from echo_requests import Double, End, Fail, Noise, Sleep, Wrong
from pam_edge.benchmarks.harness.worker import serve
from pam_edge.core.errors import UsageError
def fail(asked): raise UsageError(asked.why) if asked.ours else ValueError(asked.why)
serve({
    Double: lambda asked: 2 * asked.n, Fail: fail, End: lambda asked: os._exit(3),
    Wrong: lambda asked: "text",
    Noise: lambda asked: [os.write(1, b"noise"), print("more", flush=True)][0],
    Sleep: lambda asked: time.sleep(60),
})
"""


def echo(tmp_path: Path) -> Worker:
    here = str(Path(__file__).parent)
    return Worker("echo", [sys.executable, "-c", ECHO, here], log=tmp_path / "logs" / "echo.txt")


def test_a_worker_answers_fails_and_answers_again(tmp_path: Path) -> None:
    with echo(tmp_path) as worker:
        assert worker.ask(Double(n=21)) == 42
        with pytest.raises(EnvironmentProblem, match="echo: ValueError: no such thing"):
            worker.ask(Fail(why="no such thing"))
        with pytest.raises(UsageError, match="echo: of ours"):  # keeps its kind, and so its exit code
            worker.ask(Fail(why="of ours", ours=True))
        assert worker.ask(Noise()) == 5  # what a library prints is no answer
        assert worker.ask(Double(n=1)) == 2
    assert b"noise" in (tmp_path / "logs" / "echo.txt").read_bytes()


def test_a_worker_that_ends_or_hangs_says_so(tmp_path: Path) -> None:
    with echo(tmp_path) as worker:
        with pytest.raises(EnvironmentProblem, match="ended with 3"):
            worker.ask(End())
        with pytest.raises(EnvironmentProblem, match="Broken pipe"):
            worker.ask(Double(n=1))
    with echo(tmp_path) as worker, pytest.raises(EnvironmentProblem, match="no answer within"):
        worker.ask(Sleep(), seconds=0.2)
    with pytest.raises(EnvironmentProblem, match="cannot be started"):
        Worker("none", [str(tmp_path / "none")], log=tmp_path / "log")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_resting_worker_takes_no_time(tmp_path: Path) -> None:
    with echo(tmp_path) as worker:
        worker.ask(Double(n=1))
        worker.rest()
        ends = time.monotonic() + 5
        state = Path(f"/proc/{worker.pid}/stat")
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < ends, "it was not stopped"
        assert worker.ask(Double(n=2)) == 4
        worker.rest()
        pid = worker.pid
    with pytest.raises(ProcessLookupError):  # a stopped one is closed too
        os.kill(pid, 0)


def test_messages_of_another_kind_are_refused(tmp_path: Path) -> None:
    with echo(tmp_path) as worker:
        with pytest.raises(EnvironmentProblem, match="unknown here: Invalid value 'unknown'"):
            worker.ask(Unknown())
        with pytest.raises(EnvironmentProblem, match=r"unknown here: Expected `int`, got `str` - at `\$.n`"):
            worker.ask(Double(n="many"))
        with pytest.raises(EnvironmentProblem, match="answer is none to Wrong: Expected `int`, got `str`"):
            worker.ask(Wrong())
        assert worker.ask(Double(n=1)) == 2


def test_sides_are_interleaved_and_a_failing_one_drops_out(tmp_path: Path) -> None:
    order: list[str] = []

    def side(name: str, fails_at: int = 99, *, keeps: bool = False) -> Side:
        who = Who(name, "int4", "echo")

        def start(stack: ExitStack) -> Started:
            worker = stack.enter_context(echo(tmp_path / name))

            def iterate() -> Iteration:
                order.append(name)
                if order.count(name) > fails_at:
                    raise EnvironmentProblem("enough")
                return Iteration(samples={"decode": [worker.ask(Double(n=len(order)))]})

            return Started(worker, iterate, who.running({"echo": "1"}))

        return Side(who, start, keeps_partial=keeps)

    def never(stack: ExitStack) -> Started:
        raise EnvironmentProblem("not installed")

    sides = [side("a"), side("b", 2), side("c", 2, keeps=True), Side(Who("d", "", ""), never)]
    kept: list[int] = []
    with open_sides(sides, lambda text: None):
        interleave(
            sides, repeat=3, warmup=1, tell=lambda text: None, after_each=lambda: kept.append(len(order))
        )
    a, b, c, d = sides
    assert order == ["a", "b", "c", "a", "b", "c", "a", "b", "c", "a"]
    assert a.samples == {"decode": [8, 14, 20]}  # the warm-up's 2 does not count
    assert a.who.versions == {"echo": "1"}
    assert b.samples == {} and b.error == "enough"
    assert c.samples == {"decode": [12]} and c.error == "enough"
    assert d.samples == {} and d.error == "not installed"
    assert kept == [4, 5, 6, 7, 10]  # after iterations that count alone
    assert a.load is None or 0 <= a.load.others_mean <= 1


def job(tmp_path: Path, **changed: Any) -> Job:
    told = {"prompt": 8, "tokens": 4, "answer_tokens": 3, "rounds": 2, "warmup": 0, "threads": 2}
    dirty = changed.pop("dirty", False)
    fixed: dict[str, Any] = {"cache": tmp_path, "bundles": (), "tell": lambda text: None}
    return Job(**{"conditions": Conditions(HERE, "c" * 40, dirty), **fixed, **told, **changed})


def test_a_row_without_samples_gives_a_reason(tmp_path: Path) -> None:
    about, who = Subject("encoder", "nano", 2, {"pictures": "1"}), Who("pytorch", "fp32", "pytorch")
    row = make_row(job(tmp_path).conditions, about, who, measure="encode")
    assert row.error == "no sample" and row.stats is None
    row = make_row(job(tmp_path).conditions, about, who, measure="encode", samples=[3, 5])
    assert row.stats is not None and row.stats.median == 4 and not row.error


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
    about = Subject("decoder", "nano", 2, {"prompt": "1070"})
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
    monkeypatch.setattr(row_builder, "read_bandwidth", lambda threads: ([1000, 1000], 4096))
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
    once, apart = (ours.answer(Answer(flow=f, tasks=scene.TASKS, tokens=24)) for f in ("once", "apart"))
    assert [len(said) for said in once.said] == [24] * 4  # stop tokens are ignored
    assert once.said == apart.said and _same(once.said, apart.said) == 1.0
    found = ours.decode(Decode(tokens=tuple(range(40)), steps=3)).samples
    assert found["prefill"][0] > 0 and found["decode"][0] > 0
    assert decoder_bytes(ours.bundle) < ours.bundle.total_bytes


def test_shares_of_equal_tokens_end_at_the_first_difference() -> None:
    assert _same([[1, 2, 3, 4], [5, 6, 7, 8]], [[1, 2, 9, 4], [5, 6, 7, 8]]) == 0.75


def test_every_pin_names_one_release() -> None:
    assert len({pin.name for pin in PINS}) == len(PINS)
    for pin in PINS:
        mark = "==" if pin.registry == "pip" else "@"
        assert all(package.rpartition(mark)[2][0].isdigit() for package in pin.packages), pin


def layered(folder: Path, scales: list[float]) -> None:
    """x times the scales of three layers, then a head; named as the model builder names them."""
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
