"""The verbs, through the real entry point: what they print where, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import PROGRAM, Result, finish, pam_edge, start
from exported import Exported
from PIL import Image
from small_bundle import small_bundle

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import SCHEMA, Check, Verification, write_manifest
from pam_edge.cli import app, console
from pam_edge.core import system_info
from pam_edge.core.errors import UsageError
from pam_edge.pipeline.results import Answer, Piece

VERBS = ("export", "run", "track", "inspect", "verify", "bench", "compare", "report", "targets", "doctor")


def changed(folder: Path, **fields: Any) -> Path:
    """A bundle with other fields in its manifest, still well-formed."""
    import msgspec

    manifest = Bundle.open(folder, check=False).manifest
    write_manifest(folder, msgspec.structs.replace(manifest, **fields))
    return folder


def test_help_is_quick_and_names_every_verb() -> None:
    clock = time.perf_counter()
    result = finish(start("--help"))
    assert time.perf_counter() - clock < 5  # importing torch alone would take most of that
    assert result.code == 0
    assert all(f"  {verb} " in result.out for verb in VERBS)


def test_help_and_targets_load_neither_torch_nor_an_engine() -> None:
    program = (
        "import atexit, sys\n"
        "heavy = {'torch', 'onnxruntime', 'onnx', 'PIL'}\n"
        "atexit.register(lambda: print('LOADED', *heavy & set(sys.modules)))\n"
    )
    for words in (["--help"], ["export", "--help"]):
        assert finish(start(*words, program=program + PROGRAM)).out.splitlines()[-1].split() == ["LOADED"]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    result = pam_edge(verb, "--help")
    assert result.code == 0
    assert result.out.startswith("Usage: pam-edge")


def test_version_is_the_package_s() -> None:
    from pam_edge import __version__

    assert pam_edge("--version").out == f"pam-edge {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["paint"],
        ["run"],
        ["export"],
        ["inspect", "a", "b"],
        ["run", "a", "b", "--seed", "x"],
        ["verify", "--nope"],
    ],
)
def test_words_that_make_no_sense_are_usage_errors(words: list[str]) -> None:
    result = pam_edge(*words)
    assert result.code == 2
    assert result.err
    assert not result.out


def test_targets_lists_every_row_and_takes_a_name() -> None:
    assert "cpu" in pam_edge("targets").out
    assert [row["name"] for row in json.loads(pam_edge("targets", "cpu", "--json").out)] == ["cpu"]
    result = pam_edge("targets", "toaster")
    assert (result.code, "known: " in result.err, result.out) == (2, True, "")


def test_inspect_says_what_a_bundle_is(exported: Exported) -> None:
    result = pam_edge("inspect", exported.bundle)
    assert result.code == 0
    for word in (
        "nano",
        "RANDOM, untrained",
        "onnxruntime",
        "fp32",
        "image_encoder.onnx",
        "embeds",
        "Apache-2.0",
    ):
        assert word in result.out
    assert "verification: ok" in result.out
    document = json.loads(pam_edge("inspect", exported.bundle, "--json").out)
    assert document["schema"] == SCHEMA
    assert document["weights"] == {"kind": "random", "source": "random:nano"}
    assert document["total_bytes"] == sum(
        p.stat().st_size for p in exported.bundle.iterdir() if p.name != "bundle.json"
    )
    assert [graph["name"] for graph in document["graphs"]] == [
        "image_encoder",
        "mask_decoder",
        "perceiver",
        "memory_encoder",
        "memory_attention",
        "perceiver_frame",
        "decoder",
    ]


def test_a_licence_that_forbids_trade_is_shown_by_inspect_and_told_once_by_run(
    exported: Exported, photo: Path, tmp_path: Path
) -> None:
    import msgspec

    from pam_edge.bundle.config import PAM_3B

    folder = exported.copy(tmp_path / "b")
    variant = Bundle.open(folder, check=False).manifest.variant
    changed(folder, variant=msgspec.structs.replace(variant, licences=PAM_3B.licences))
    assert "NOT COMMERCIAL" in pam_edge("inspect", folder).out
    result = pam_edge("run", folder, photo, "--point", "90,90", "--max-tokens", "2")
    assert result.code == 0
    assert result.err.count("qwen-research, not for commercial use") == 1
    assert "qwen-research" not in result.out


def test_no_text_of_a_bundle_drives_the_terminal(exported: Exported, tmp_path: Path) -> None:
    from pam_edge.bundle.manifest import Weights

    folder = changed(exported.copy(tmp_path / "b"), weights=Weights(kind="files", source="\x1b[2Jgone\r\n"))
    out = pam_edge("inspect", folder).out
    assert "\x1b" not in out
    assert "\\x1b[2Jgone\\r\\n" in out


def test_a_bundle_that_failed_its_verification_says_so_everywhere(
    exported: Exported, photo: Path, tmp_path: Path
) -> None:
    off = Verification(
        runtime="onnxruntime",
        host="here",
        checks=(Check(graph="perceiver", measure="x", worst=1, limit=0.1, ok=False),),
    )
    folder = changed(exported.copy(tmp_path / "b"), verification=off)
    assert "verification: FAILED" in pam_edge("inspect", folder).out
    assert (
        "failed its verification" in pam_edge("run", folder, photo, "--point", "9,9", "--max-tokens", "1").err
    )
    changed(folder, verification=None)
    assert "verification: not run" in pam_edge("inspect", folder).out


def test_verify_prints_a_table_and_json(exported: Exported) -> None:
    result = pam_edge("verify", exported.bundle)
    assert result.code == 0
    rows = [line.split() for line in result.out.splitlines()]
    graphs = {graph.name for graph in Bundle.open(exported.bundle).manifest.graphs}
    assert {row[0] for row in rows[1:]} == {*graphs, "answer"}
    assert all(row[-1] == "ok" for row in rows[1:])
    document = json.loads(pam_edge("verify", exported.bundle, "--json").out)
    assert document["ok"] is True
    assert len(document["checks"]) == len(rows) - 1


def test_run_tells_the_mask_then_the_answers_and_its_numbers_on_stderr(
    exported: Exported, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "overlay.png"
    words = ["run", exported.bundle, photo, "--point", "70,80", "--point", "10,10,0", "--max-tokens", "6"]
    result = pam_edge(
        *words, "--task", "recognize,explain", "--lang", "zh", "--ask", "Is it red?", "--out", out
    )
    assert result.code == 0, result.err
    starts = [
        line.split(":")[0]
        for line in result.out.split("\n")
        if line.split(":")[0] in {"mask", "recognize", "explain", "question"}
    ]
    assert starts == ["mask", "recognize", "explain", "question"]
    for word in ("encode", "prefill", "tok/s", "GB/s", "peak", "untrained"):
        assert word in result.err
        assert word not in result.out
    with Image.open(out) as drawn:
        assert max(drawn.size) >= 400
    assert not list(tmp_path.glob("*.tmp"))


def test_run_json_is_one_document_and_its_mask_is_the_region_s(exported: Exported, photo: Path) -> None:
    import pam_edge as package
    from pam_edge.image import coco_rle
    from pam_edge.image.preprocess import Prompt

    words = [
        "run",
        exported.bundle,
        photo,
        "--box",
        "20,20,120,120",
        "--task",
        "brief,recognize",
        "--max-tokens",
        "5",
        "--json",
    ]
    result = pam_edge(*words)
    document = json.loads(result.out)
    pam = package.load(exported.bundle)
    region = pam.segment(pam.look(photo), Prompt(box=(20, 20, 120, 120)))
    assert document["size"] == [150, 200]
    assert document["mask"]["counts"] == coco_rle.encode(region.mask)
    assert [answer["task"] for answer in document["answers"]] == ["brief", "recognize"]
    described = pam.describe(region, ["brief", "recognize"], max_tokens=5)
    list(described)
    assert [tuple(a["token_ids"]) for a in document["answers"]] == [a.token_ids for a in described.answers]


def test_run_samples_by_seed(exported: Exported, photo: Path) -> None:
    def tokens(seed: int) -> list[int]:
        words = ["--temperature", "2", "--top-p", "0.9", "--seed", str(seed), "--max-tokens", "8", "--json"]
        document = json.loads(pam_edge("run", exported.bundle, photo, "--point", "70,80", *words).out)
        found: list[int] = document["answers"][0]["token_ids"]
        return found

    assert tokens(1) == tokens(1) != tokens(2)


def test_run_takes_a_mask_from_elsewhere(exported: Exported, photo: Path, tmp_path: Path) -> None:
    mask = np.zeros((150, 200), np.uint8)
    mask[40:100, 50:120] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    result = pam_edge("run", exported.bundle, photo, "--mask", tmp_path / "mask.png", "--max-tokens", "1")
    assert result.code == 0
    assert result.out.startswith("mask: ")


def test_doctor_reports_and_fails_only_where_the_runtime_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    result = pam_edge("doctor")
    assert result.code == 0
    for word in ("Python", "cores", "memory", "engine onnxruntime", "extra [export]"):
        assert word in result.out
    from pam_edge.cli import doctor

    have = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("av", "torch") else have(name))
    result = pam_edge("doctor")
    assert result.code == 0
    assert "pip install 'pam-edge[export]'" in result.out
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "tokenizers" else have(name))
    document = json.loads(pam_edge("doctor", "--json").out)
    assert document["healthy"] is False
    assert pam_edge("doctor").code == 3


def test_doctor_claims_no_test_on_another_python(monkeypatch: pytest.MonkeyPatch) -> None:
    from pam_edge.cli import doctor

    monkeypatch.setattr(doctor.sys, "version_info", (3, 9, 0))
    (finding,) = (f for f in doctor.examine() if f.what == "Python")
    assert (finding.state, finding.advice) == ("hint", "pam-edge is made for Python 3.10 to 3.13")


def test_doctor_tells_a_missing_engine() -> None:
    result = finish(start("doctor", program="import sys; sys.modules['onnxruntime'] = None; " + PROGRAM))
    assert result.code == 3
    assert "does not open" in result.out


def test_without_torch_everything_but_export_works(exported: Exported, photo: Path) -> None:
    """What `pip install pam-edge` alone gives: no torch, onnx, safetensors or transformers to import."""
    absent = ("torch", "onnx", "onnxscript", "safetensors", "transformers")
    program = f"import sys\nfor name in {absent}: sys.modules[name] = None\n{PROGRAM}"
    assert finish(start("verify", exported.bundle, program=program)).code == 0
    ran = finish(
        start("run", exported.bundle, photo, "--point", "70,80", "--max-tokens", "2", program=program)
    )
    assert (ran.code, ran.out.startswith("mask: ")) == (0, True)
    result = finish(start("export", "--target", "cpu", "--dry-run", program=program))
    assert result.code == 3
    assert "pip install 'pam-edge[export]'" in result.err


def test_an_engine_that_is_not_here_is_an_environment_problem(
    exported: Exported, photo: Path, tmp_path: Path
) -> None:
    folder = changed(exported.copy(tmp_path / "b"), runtime="quantum")
    for words in (["verify", folder], ["run", folder, photo, "--point", "9,9"]):
        result = pam_edge(*words)
        assert result.code == 3
        assert "quantum" in result.err


def test_a_bug_is_short_without_debug_and_whole_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(system_info, "cores", broken)
    result = pam_edge("doctor")
    assert result.code == 1
    assert "a bug in pam-edge: ZeroDivisionError: oops" in result.err
    assert "Traceback" not in result.err
    assert "Traceback" in pam_edge("--debug", "doctor").err


def test_interrupts_end_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(system_info, "cores", stop)
    assert pam_edge("doctor").code == 130


def into(stdout: int, *words: str | Path) -> Result:
    """`pam-edge WORDS` in a process of its own, writing into an open file."""
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    return Result(process.returncode, "", process.stderr)


TELLING = [["inspect"], ["inspect", "--json"], ["--help"], ["run", "--help"], ["--version"]]


@pytest.mark.parametrize("words", TELLING, ids=" ".join)
def test_a_reader_that_left_before_the_first_word_is_no_error(tmp_path: Path, words: list[str]) -> None:
    bundle = [small_bundle(tmp_path)] if words[0] == "inspect" else []
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert into(writer, *words, *bundle) == Result(0, "", "")
    finally:
        os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
@pytest.mark.parametrize("words", TELLING, ids=" ".join)
def test_a_full_disk_behind_stdout_is_told_as_one(tmp_path: Path, words: list[str]) -> None:
    bundle = [small_bundle(tmp_path)] if words[0] == "inspect" else []
    with Path("/dev/full").open("w") as full:
        result = into(full.fileno(), *words, *bundle)
    assert result.code == 7
    assert result.err.startswith("pam-edge: cannot write the output: ")
    assert result.err.count("\n") == 1


def test_no_message_drives_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What an error or a note quotes may be hostile: escapes are shown, lines stay lines."""
    from pam_edge.core.errors import IntegrityError

    def hostile() -> None:
        raise IntegrityError("one \x1b[2J\rtwo\n\x9b1mthree 狗")

    monkeypatch.setattr(system_info, "cores", hostile)
    result = pam_edge("doctor")
    assert result.code == 6
    assert result.err == "pam-edge: one \\x1b[2J\\rtwo\n\\x9b1mthree 狗\n"
    debug = pam_edge("--debug", "doctor").err
    assert "Traceback" in debug
    assert not {"\x1b", "\r", "\x9b"} & set(debug)
    console.note("\na\x1bb")
    assert capsys.readouterr().err == "\na\\x1bb\n"


def test_ctrl_c_while_answering_ends_with_130(exported: Exported, photo: Path) -> None:
    """The mask is told before the text; then the reader has had enough."""
    slow = "import time, pam_edge.text.decoding as g; old = g.greedy; "
    slow += "g.greedy = lambda logits: time.sleep(0.5) or old(logits)\n"
    process = start("run", exported.bundle, photo, "--point", "70,80", program=slow + PROGRAM)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("mask: ")
    process.send_signal(signal.SIGINT)
    result = finish(process)
    assert result.code == 130
    assert "Traceback" not in result.err


def test_answers_decoded_side_by_side_are_told_one_after_the_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def piece(index: int, text: str, end: bool = False) -> Piece:
        task = ("a", "b", "c")[index]
        return Piece(index, task, text, Answer(task, "en", "", (), "stop") if end else None)

    answers = console.Answers(["a", "b", "c"])
    seen = []
    for p in (
        piece(1, "b1"),
        piece(0, "a1"),
        piece(1, "b2", True),
        piece(2, "c1\x1b"),
        piece(0, "a2", True),
        piece(2, "", True),
    ):
        answers.push(p)
        seen.append(capsys.readouterr().out)
    assert seen == ["a: ", "a1", "", "", "a2\nb: b1b2\nc: c1\\x1b", "\n"]


class Terminal:
    """A stream that is or is not a terminal."""

    def __init__(self, tty: bool) -> None:
        self.tty, self.text = tty, ""

    def isatty(self) -> bool:
        return self.tty

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("tty", [True, False])
def test_a_bar_moves_on_a_terminal_only(tty: bool) -> None:
    stream: Any = Terminal(tty)
    progress = console.Progress(["one", "two"], stream=stream)
    progress("one", None)
    for part in (0.0, 0.5, 1.0):
        progress("two", part)
    assert ("\r" in stream.text) is tty
    assert ("####" in stream.text) is tty
    lines = [line.split("\r")[-1].split() for line in stream.text.strip().split("\n")]
    assert lines == [["[1/2]", "one", "kept", "from", "before"], ["[2/2]", "two", "done"]]


def test_a_step_is_done_when_the_next_begins() -> None:
    stream: Any = Terminal(False)
    progress = console.Progress(["one", "two"], stream=stream)
    told = []
    for name in ("one", "two", None):
        progress.begin(name)
        told.append(stream.text.count("done"))
    assert told == [0, 1, 2]


def test_main_is_the_command_pam_edge() -> None:
    from importlib.metadata import entry_points

    (command,) = entry_points(group="console_scripts", name="pam-edge")
    assert command.load() is app.main


def test_usage_errors_name_what_was_written() -> None:
    from pam_edge.cli.arguments import read_prompt, read_tasks

    for bad in ("", "1", "1,2,3,4", "a,b", "1,2,2", "1,2,-1", "1;2", "nan,1", "inf,1"):
        with pytest.raises(UsageError):
            read_prompt([bad], None, None)
    for bad in ("1,2,3", "5,5,1,1", "1,1,1,1", "a,b,c,d", "1,2,3,inf"):
        with pytest.raises(UsageError):
            read_prompt([], bad, None)
    for tasks in ("", ",", "a,,b"):
        with pytest.raises(UsageError):
            read_tasks(tasks, None)
    assert read_tasks(None, None) == ["brief"]
    assert read_prompt(["-1.5,2", "3,4,0"], "1,2,3,4", None).points == ((-1.5, 2, 1), (3, 4, 0))


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pam_edge", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("pam-edge ")
