"""Weights by name, from a hub on loopback: pinned, resumed, checked, and every refusal in words."""

from __future__ import annotations

import importlib.abc
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command import pam_edge, refused
from fake_hub import Hub, files_of, serving

from pam_edge.bundle import builtin
from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.manifest import Weights
from pam_edge.core import system_info
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError, WontFitError
from pam_edge.export.checkpoint.hub_names import HubName, hub_name
from pam_edge.export.checkpoint.locate import Located, locate
from pam_edge.export.driver.build import plan
from pam_edge.render.tables import bundle_summary

if TYPE_CHECKING:
    from golden.seeded import GoldenFolder

pytest.importorskip("huggingface_hub")

from huggingface_hub import constants

PAM, SAM = "Some-Org/PAM-tiny", "some.org/sam2"
CHUNK = 1 << 16  # what huggingface_hub reads at once; in its own setting 10 MB
SHARD = "model-00002-of-00003.safetensors"
EXTRA = {"README.md": b"# no weights", "modeling_pam.py": b"raise SystemExit", "pytorch_model.bin": b"pickle"}


@pytest.fixture
def hub(golden_folder: GoldenFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The golden checkpoint on a hub, an empty cache, and an empty folder to be in."""
    with serving() as hub:
        hub.add(PAM, files_of(golden_folder.weights) | EXTRA)
        hub.add(SAM, {"sam2_tiny.pt": golden_folder.sam2.read_bytes(), "model.safetensors": b"other"})
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        yield hub


def fetched(weights: str = PAM, sam2: str | None = None) -> Located:
    found = locate(weights, sam2)
    found.fetch()
    return found


def test_what_is_a_name_and_what_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commit = "0" * 40
    assert hub_name("a/b") == HubName("a/b", "a/b")
    assert hub_name(f"a/b.c@{commit}") == HubName(f"a/b.c@{commit}", "a/b.c", commit)
    assert hub_name("a/b@refs/pr/1:d/e.pt", file=True) == HubName(
        "a/b@refs/pr/1:d/e.pt", "a/b", "refs/pr/1", "d/e.pt"
    )
    for path in (
        "nano",
        "random:pam-1.5b",
        "PAM-1.5B",
        "./a/b",
        "/a/b",
        "a/b/c",
        "../a",
        "~/a",
        "a/b@",
        r"C:\a",
    ):
        assert hub_name(path) is None, path
    with pytest.raises(UsageError, match=r"leave out :x\.pt"):
        hub_name("a/b:x.pt")
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert hub_name("a/b") is None, "what exists here wins"


def test_only_what_is_needed_is_downloaded_and_opened_through_links(
    hub: Hub, golden_folder: GoldenFolder
) -> None:
    weights, sam2 = locate(PAM, SAM).fetch()
    assert not isinstance(weights, str) and sam2 is not None and not isinstance(sam2, Path)
    commit = hub.repos[PAM].refs["main"]
    assert (weights.repo, weights.commit) == (PAM, commit)
    assert str(sam2) == f"{SAM}@{hub.repos[SAM].refs['main']}:sam2_tiny.pt"
    assert {path.name for path in weights.path.iterdir()} == set(files_of(golden_folder.weights))
    assert all(path.is_symlink() for path in weights.path.iterdir())
    settled = plan(weights, target="cpu", sam2=sam2, sam2_config=golden_folder.sam2_config)
    assert settled.checkpoint.tensor("vision.no_mem_embed").shape
    assert settled.checkpoint.weights == Weights(kind="files", source=PAM, revision=commit, sam2=str(sam2))


@pytest.mark.slow
def test_the_bundle_is_that_of_the_local_files_and_knows_its_commit(
    hub: Hub, float_nano: Path, tmp_path: Path
) -> None:
    commit = hub.add("some/nano", {path.name: path.read_bytes() for path in builtin.WEIGHTS.glob("*.*")})
    named = pam_edge(
        *("export", "--target", "cpu", "--scheme", "fp16", "-o", tmp_path / "named"),
        *("--weights", "some/nano@main", "--sam2", "some/nano", "--sam2-config", builtin.SAM2_CONFIG),
    )
    assert named.code == 0, named.err
    assert f"some/nano@{commit}" in named.err
    bundle, local = Bundle.open(tmp_path / "named"), Bundle.open(float_nano)
    assert bundle.manifest.files() == local.manifest.files(), "sizes and sha256 of every file"
    sam2 = f"some/nano@{commit}:{builtin.SAM2.name}"
    assert bundle.manifest.weights == Weights(kind="files", source="some/nano", revision=commit, sam2=sam2)
    assert local.manifest.weights == Weights(kind="files", source="nano")
    assert f"some/nano@{commit})" in bundle_summary(bundle)
    assert sam2 in bundle_summary(bundle)


def test_a_branch_that_moves_is_another_export_and_a_commit_is_not(
    hub: Hub, golden_folder: GoldenFolder
) -> None:
    def options(weights: str) -> dict[str, str]:
        found, sam2 = locate(weights, SAM).fetch()
        return plan(found, target="cpu", sam2=sam2, sam2_config=golden_folder.sam2_config).options

    first = hub.repos[PAM].refs["main"]
    before = options(PAM)
    hub.add(PAM, hub.repos[PAM].commits[first] | {"generation_config.json": b'{"eos_token_id": 2}'})
    assert options(f"{PAM}@{first}") == before
    after = options(PAM)
    assert {key for key in after if after[key] != before[key]} == {"files"}
    assert hub.gets(SHARD) == [None], "shared by both commits, downloaded once"


def test_a_broken_connection_is_resumed_in_the_same_run(hub: Hub) -> None:
    hub.cut[SHARD] = CHUNK + 1000
    found = fetched()
    assert hub.gets(SHARD) == [None, f"bytes={CHUNK}-"]
    assert not locate(PAM, None).missing
    assert found.missing, "as it was listed before"


def test_what_was_downloaded_is_kept_for_the_next_run(hub: Hub) -> None:
    hub.cut[SHARD] = CHUNK + 1000
    hub.after_cut = lambda: hub.refuse.update({SHARD: 503})
    with pytest.raises(EnvironmentProblem, match=r"HTTP 503.*kept"):
        fetched()
    whole = locate(PAM, None).listings[0]
    assert whole.to_come < sum(file.bytes for file in whole.missing)
    hub.refuse.clear()
    fetched()
    assert hub.gets(SHARD)[-1] == f"bytes={CHUNK}-"
    assert len(hub.gets("model-00001-of-00003.safetensors")) == 1


def test_control_c_leaves_what_the_next_run_goes_on_from(hub: Hub, tmp_path: Path) -> None:
    def interrupt() -> None:
        for _ in range(3000):  # until the first chunk is written
            if any(part.stat().st_size for part in (tmp_path / "cache").rglob("*.pam-edge.incomplete")):
                break
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    hub.cut[SHARD] = CHUNK + 1000
    hub.after_cut = interrupt
    stopped = pam_edge("export", "--target", "cpu", "--weights", PAM)
    assert stopped.code == 130
    assert "what was downloaded is kept" in stopped.err
    fetched()
    assert hub.gets(SHARD)[-1] == f"bytes={CHUNK}-"


@pytest.mark.parametrize("file", [SHARD, "config.json"])
def test_a_wrong_hash_is_refused_and_never_linked(hub: Hub, file: str, tmp_path: Path) -> None:
    right = hub.repos[PAM].commits[hub.repos[PAM].refs["main"]][file]
    hub.swap[file] = b"\0" * len(right)
    with pytest.raises(IntegrityError, match=f"{file} of {PAM} arrived damaged"):
        fetched()
    assert not list((tmp_path / "cache").rglob(f"snapshots/*/{file}"))
    hub.swap.clear()
    fetched()


def test_a_shorter_file_is_refused(hub: Hub) -> None:
    hub.swap[SHARD] = b"short"
    with pytest.raises(IntegrityError, match=f"{PAM} arrived incomplete"):
        fetched()


def test_a_truncated_file_in_the_cache_is_replaced(hub: Hub) -> None:
    weights, _ = locate(PAM, None).fetch()
    assert not isinstance(weights, str)
    shard = weights.path / SHARD
    whole = shard.read_bytes()
    shard.resolve().write_bytes(whole[:-1])
    assert locate(PAM, None).missing
    fetched()
    assert shard.read_bytes() == whole


def test_offline_takes_what_is_there(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.repos[PAM].refs["main"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EnvironmentProblem, match=r"no PAM folder at .*cannot be reached.*HF_HUB_OFFLINE"):
        fetched()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fetched()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    for name in (PAM, f"{PAM}@main", f"{PAM}@{commit}"):
        assert not fetched(name).missing
    assert not hub.asked


def test_no_connection(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.repos[PAM].refs["main"]
    fetched()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert not fetched(f"{PAM}@{commit}").missing
    with pytest.raises(EnvironmentProblem, match="cannot be reached"):
        fetched("other/name")


def test_refusals(hub: Hub) -> None:
    hub.add("some/pickles", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    hub.add("some/data", {"README.md": b"x"})
    hub.add("some/two", {"a.pt": b"1", "b.pt": b"2"})
    commit = "0" * 40
    cases = {
        ("weights/foo", SAM): ("no PAM folder at weights/foo; read as a name", "no repository weights/foo"),
        (PAM, "weights/sam2.pt"): ("no file at weights/sam2.pt; read as", "no repository weights/sam2.pt"),
        (f"{PAM}@v9", SAM): ("no revision v9",),
        (f"{PAM}@{commit}", SAM): (f"no revision {commit}",),
        ("some/pickles", SAM): ("no safetensors", "pickled"),
        ("some/data", SAM): ("no config.json",),
        (PAM, "some/two"): ("2: name it with :FILE (a.pt, b.pt)",),
        (PAM, f"{SAM}:large.pt"): ("no file large.pt", "sam2_tiny.pt"),
        (PAM, "some/data"): ("not one .pt file but 0",),
        ("a--b/..c", SAM): ("no PAM folder at a--b/..c",),
    }
    for (weights, sam2), words in cases.items():
        refused(pam_edge("export", "--target", "cpu", "--weights", weights, "--sam2", sam2), 2, *words)
    assert not hub.gets(SHARD), "refused before the first byte"


def test_gated(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos[PAM].gated = True
    result = pam_edge("export", "--target", "cpu", "--weights", PAM)
    refused(result, 3, f"{PAM} is gated", "accept its terms", "hf auth login")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetched()


def test_a_full_disk_is_known_before_the_first_byte(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_info, "free_disk", lambda path: 1000)
    with pytest.raises(WontFitError, match=r"to download, 1.0 kB are free.*HF_HUB_CACHE"):
        fetched()
    assert not hub.gets("config.json")


def test_dry_run_tells_the_size_and_downloads_nothing(hub: Hub) -> None:
    told = pam_edge("export", "--target", "cpu", "--weights", PAM, "--sam2", SAM, "--dry-run")
    assert told.code == 0, told.err
    assert f"{PAM}@{hub.repos[PAM].refs['main']}: " in told.out
    assert "to download" in told.out
    assert not [path for _, path, _ in hub.asked if "/resolve/" in path]


def test_without_the_extra(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name.split(".")[0] == "huggingface_hub":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [
        name for name in sys.modules if name.startswith(("huggingface_hub", "pam_edge.export.checkpoint.hub"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    result = pam_edge("export", "--target", "cpu", "--weights", "some/name")
    refused(result, 3, "no PAM folder at some/name", "pip install 'pam-edge[hub]'")
