"""A bundle opened on another kind of CPU than it was verified on: told, settled by `verify`, remembered."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from command import pam_edge
from exported import Exported, digests
from small_bundle import small_bundle

from pam_edge import load
from pam_edge.api import model
from pam_edge.bundle import builtin
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Check, Manifest, Verification, write_manifest
from pam_edge.cli import doctor
from pam_edge.core import user_cache
from pam_edge.runtimes.common.registry import engine_version
from pam_edge.verify import verified_here, verify
from pam_edge.verify.verified_here import look_up, remember, verdict, warnings

MADE, HERE = "x86-64: avx512 vnni", "x86-64: avx2"
ENGINE = engine_version("onnxruntime") or ""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, on a CPU of the kind HERE."""
    monkeypatch.setenv(user_cache.ENV, str(tmp_path / "cache"))
    monkeypatch.setattr(verified_here, "cpu_kind", lambda: HERE)
    monkeypatch.setattr(verify, "cpu_kind", lambda: HERE)
    return tmp_path / "cache"


def checked(
    *, ok: bool = True, cpu: str = MADE, engine: str = ENGINE, runtime: str = "onnxruntime"
) -> Verification:
    check = Check(graph="a", measure="x", worst=0.0, limit=1.0, ok=ok)
    return Verification(runtime=runtime, host="there", checks=(check,), engine=engine, cpu=cpu)


def with_fields(manifest: Manifest, folder: Path, **fields: object) -> Bundle:
    write_manifest(folder, msgspec.structs.replace(manifest, **fields))
    return Bundle.open(folder)


@pytest.fixture
def made(tmp_path: Path) -> Bundle:
    """A bundle that was verified on a CPU of the kind MADE."""
    folder = small_bundle(tmp_path / "bundle")
    return with_fields(Bundle.open(folder).manifest, folder, verification=checked())


def test_another_kind_of_cpu_is_told_and_how_to_settle_it(made: Bundle) -> None:
    assert warnings(look_up(made)) == [
        f"verified on {MADE}; this CPU is {HERE}: run `pam-edge verify {made.folder}` once"
    ]
    assert verdict(look_up(made)).startswith(f"verified on {MADE}, not on this kind of CPU")


def test_a_name_with_blanks_is_quoted(tmp_path: Path) -> None:
    folder = small_bundle(tmp_path / "my bundle")
    opened = with_fields(Bundle.open(folder).manifest, folder, verification=checked())
    assert f"verify '{folder}'`" in warnings(look_up(opened))[0]


def test_the_same_kind_is_silent_whatever_the_engines_version(made: Bundle) -> None:
    for engine in (ENGINE, "1.0.0"):
        opened = with_fields(made.manifest, made.folder, verification=checked(cpu=HERE, engine=engine))
        assert warnings(look_up(opened)) == []
        assert ("1.0.0" in verdict(look_up(opened))) == (engine == "1.0.0")


def test_silent_where_nothing_is_known(made: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for fields in ({"verification": None}, {"verification": checked(cpu="", engine="")}):
        opened = with_fields(made.manifest, made.folder, **fields)
        assert warnings(look_up(opened)) == []
        assert "does not say" in verdict(look_up(opened))
    monkeypatch.setattr(verified_here, "cpu_kind", lambda: None)
    assert (warnings(look_up(made)), verdict(look_up(made))) == ([], "")


def test_a_gpus_engine_does_not_depend_on_the_cpu(made: Bundle) -> None:
    opened = with_fields(
        made.manifest, made.folder, runtime="tensorrt", verification=checked(runtime="tensorrt")
    )
    assert warnings(look_up(opened)) == []
    assert not remember(opened, checked(runtime="tensorrt", cpu=HERE))


def test_an_outcome_is_remembered_for_this_bundle_engine_and_cpu(
    made: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(made.folder)
    assert remember(made, checked(cpu=HERE))
    assert digests(made.folder) == before
    assert warnings(look_up(made)) == []
    assert verdict(look_up(made)).startswith("verified here")

    other = with_fields(made.manifest, small_bundle(made.folder.parent / "other"), scheme="int8")
    assert look_up(other).ok is None
    monkeypatch.setattr(verified_here, "engine_version", lambda runtime: "99.0")
    assert look_up(made).ok is None
    monkeypatch.undo()
    monkeypatch.setenv(user_cache.ENV, str(cache))
    monkeypatch.setattr(verified_here, "cpu_kind", lambda: "aarch64: dotprod")
    assert look_up(made).ok is None


def test_a_failure_is_remembered_until_it_passes(made: Bundle) -> None:
    opened = with_fields(made.manifest, made.folder, verification=checked(cpu=HERE))
    assert remember(opened, checked(cpu=HERE, ok=False))
    (line,) = warnings(look_up(opened))
    assert "failed `pam-edge verify` on this kind of CPU" in line and HERE in line
    assert verdict(look_up(opened)).startswith("FAILED")
    assert remember(opened, checked(cpu=HERE))
    assert warnings(look_up(opened)) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[" * 3000,
        b"\xff\xfe",
        b'{"ok": true}',
        b'{"bundle":"","place":{},"ok":1}',
        b"x" * 9999,
    ],
)
def test_garbage_in_the_cache_is_ignored(made: Bundle, cache: Path, content: bytes) -> None:
    remember(made, checked(cpu=HERE))
    (kept,) = (cache / "verified").iterdir()
    kept.write_bytes(content)
    assert len(warnings(look_up(made))) == 1
    assert remember(made, checked(cpu=HERE))
    assert warnings(look_up(made)) == []


def test_an_outcome_of_another_bundle_is_not_believed(made: Bundle, cache: Path) -> None:
    remember(made, checked(cpu=HERE))
    (kept,) = (cache / "verified").iterdir()
    document = json.loads(kept.read_text())
    kept.write_text(json.dumps({**document, "bundle": "0" * 64}))
    assert look_up(made).ok is None
    kept.write_text(json.dumps({**document, "place": {**document["place"], "cpu": MADE}}))
    assert look_up(made).ok is None


def test_an_engine_older_than_the_bundle_needs_is_told(made: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = with_fields(made.manifest, made.folder, verification=checked(cpu=HERE), oldest_engine="1.22")
    for version, told in (("1.9.0", True), ("1.21.1", True), ("1.22.0", False), ("1.22.0rc1+cpu", False)):
        monkeypatch.setattr(verified_here, "engine_version", lambda runtime, version=version: version)
        assert [
            f"needs onnxruntime 1.22 or newer, here is {version}" in w for w in warnings(look_up(opened))
        ] == ([True] if told else [])


def test_verify_settles_it_and_the_verbs_tell_it_once(
    exported: Exported, tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported.copy(tmp_path / "b")
    manifest = Bundle.open(folder).manifest
    assert manifest.verification is not None and manifest.verification.engine == ENGINE
    assert manifest.verification.cpu and manifest.oldest_engine == "1.20"
    elsewhere = msgspec.structs.replace(manifest.verification, cpu=MADE)
    with_fields(manifest, folder, verification=elsewhere)
    before = digests(folder)

    line = f"note: verified on {MADE}; this CPU is {HERE}: run `pam-edge verify {folder}` once\n"
    run = ("run", folder, photo, "--point", "9,9", "--max-tokens", "1")
    assert pam_edge(*run).err.count(line) == 1
    inspected = pam_edge("inspect", folder)
    assert inspected.err == line
    assert "opens with  onnxruntime 1.20 or newer" in inspected.out and MADE in inspected.out
    assert json.loads(pam_edge("inspect", folder, "--json").out)["ok_here"] is None

    with pytest.MonkeyPatch.context() as patch:  # no usable cache: verify works, and nothing is remembered
        patch.setenv(user_cache.ENV, "/dev/null")
        assert pam_edge("verify", folder).code == 0
        assert line in pam_edge("inspect", folder).err
    assert pam_edge("verify", folder).code == 0
    assert pam_edge("inspect", folder).err == ""
    assert line not in pam_edge(*run).err
    assert json.loads(pam_edge("inspect", folder, "--json").out)["ok_here"] is True
    assert digests(folder) == before


def test_verify_remembers_a_failure(exported: Exported, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "verify", lambda bundle, **_: checked(ok=False, cpu=HERE))
    assert pam_edge("verify", exported.bundle).code == 4
    told = pam_edge("run", exported.bundle, photo, "--point", "9,9", "--max-tokens", "1").err
    assert told.count("failed `pam-edge verify` on this kind of CPU") == 1


def test_doctor_tells_of_the_packaged_bundle(made: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "BUNDLE", made.folder)
    monkeypatch.chdir(made.folder.parent)
    (finding,) = (f for f in doctor.examine() if f.what == "bundle nano")
    assert finding.state == "hint" and finding.advice.endswith("run `pam-edge verify nano` once")
    remember(made, checked(cpu=HERE))
    (finding,) = (f for f in doctor.examine() if f.what == "bundle nano")
    assert (finding.state, finding.advice) == ("ok", "")


def test_load_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    model._warn_once.cache_clear()
    for _ in range(2):
        load("nano").close()
    load(Bundle.open(builtin.BUNDLE)).close()  # opened by the caller: `run` tells it by itself
    (record,) = [r for r in caplog.records if r.name == "pam_edge"]
    assert record.levelname == "WARNING" and f"verified on {MADE}; this CPU is {HERE}" in record.getMessage()
