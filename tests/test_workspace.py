"""The folder of an unfinished export: done stays done, the rest is made again, nobody's files are touched."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest
from small_bundle import small_bundle

from pam_edge.bundle.manifest import MANIFEST
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError, WontFitError
from pam_edge.export.driver.workspace import LOCK, PARTIAL, STATE, Workspace

OPTIONS = {"target": "cpu", "weights": "random:nano"}


def make(work: Workspace, name: str, content: bytes = b"x") -> None:
    with work.step() as place:
        (place / f"{name}.bin").write_bytes(content)
        (place / f"{name}.tmp").write_bytes(b"scratch")
    work.keep(name, [f"{name}.bin"], scratch=[f"{name}.tmp"])


def open_(folder: Path, *, force: bool = False, **options: str) -> Workspace:
    return Workspace(folder, options={**OPTIONS, **options}, force=force)


def test_finished_steps_are_found_again_and_scratch_goes_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with open_(folder) as work:
        make(work, "one")
        with work.step() as place:
            (place / "two.bin").write_bytes(b"half")  # interrupted here
    assert (folder / PARTIAL / "two.bin").exists()
    with open_(folder) as work:
        assert not (folder / PARTIAL).exists()
        assert work.finished("two") is None
        one = work.finished("one")
        assert one is not None
        assert [ref.path for ref in one.files] == ["one.bin"]
        assert [ref.path for ref in one.scratch] == ["one.tmp"]
        make(work, "two")
        work.close()
    assert sorted(p.name for p in folder.iterdir()) == ["one.bin", "two.bin"]


def test_files_are_on_the_disk_before_a_step_counts_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, done, synced = tmp_path / "out", os.fsync, list[tuple[str, bool]]()
    names: dict[int, str] = {}

    def fsync(number: int) -> None:
        state = folder / STATE
        told = state.exists() and b'"one"' in state.read_bytes()
        names.update({path.stat().st_ino: path.name for path in folder.rglob("*")})
        synced.append((names[os.fstat(number).st_ino], told))
        done(number)

    with open_(folder) as work:
        monkeypatch.setattr(os, "fsync", fsync)
        make(work, "one")
    assert synced == [("one.bin", False), (STATE + ".tmp", False)]


def test_a_folder_of_files_is_kept_resumed_and_replaced(tmp_path: Path) -> None:
    """Some engines' models are folders."""
    inside = ("m.mlpackage/Data/weights/w.bin", "m.mlpackage/Manifest.json")

    def make_folder(work: Workspace) -> None:
        with work.step() as place:
            for name in inside:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(name.encode())
            names = tuple(
                sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
            )
        assert sorted(inside) == list(names)
        work.keep("m", names)

    folder = tmp_path / "a"
    with open_(folder) as work:
        make_folder(work)
    with open_(folder) as work:
        assert work.finished("m") is not None
    (folder / inside[0]).write_bytes(b"damaged")
    with open_(folder) as work:
        assert work.finished("m") is None
        make_folder(work)
    with open_(folder, force=True, seed="1"):
        assert not (folder / "m.mlpackage").exists()


def test_a_file_that_nobody_named_is_a_mistake(tmp_path: Path) -> None:
    with open_(tmp_path / "a") as work:
        with work.step() as place:
            (place / "d").mkdir()
            (place / "d" / "forgotten").write_bytes(b"x")
            (place / "named").write_bytes(b"x")
        with pytest.raises(EnvironmentProblem):
            work.keep("one", ["named"])


def test_the_shelf_is_of_its_options_alone_and_goes_at_the_end(tmp_path: Path) -> None:
    with open_(tmp_path / "a") as work:
        (shelf := work.shelf).mkdir()
        (shelf / "seen").write_bytes(b"x")
    with open_(tmp_path / "a") as work:
        assert (work.shelf / "seen").exists()
    with open_(tmp_path / "a", force=True, seed="1") as work:
        assert work.shelf != shelf
        work.shelf.mkdir()
        make(work, "one")
        work.close()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["one.bin"]


@pytest.mark.parametrize("damage", ["change", "cut", "remove", "link", "scratch"])
def test_a_finished_step_whose_files_changed_is_made_again(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "out"
    with open_(folder) as work:
        make(work, "one", b"abc")
    path = folder / "one.bin"
    if damage == "change":
        path.write_bytes(b"abd")
    elif damage == "cut":
        path.write_bytes(b"ab")
    elif damage == "remove":
        path.unlink()
    elif damage == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        (folder / "one.tmp").unlink()
    with open_(folder) as work:
        assert work.finished("one") is None
        make(work, "one", b"abc")
        assert work.finished("one") is not None
    assert not path.is_symlink()


def test_other_options_need_force_and_start_over(tmp_path: Path) -> None:
    with open_(tmp_path / "out") as work:
        make(work, "one")
    with pytest.raises(UsageError, match="weights: random:nano, now random:pam-3b"):
        open_(tmp_path / "out", weights="random:pam-3b")
    with open_(tmp_path / "out") as work:
        assert work.finished("one") is not None
        work.shelf.mkdir()
    with open_(tmp_path / "out", force=True, weights="random:pam-3b") as work:
        assert work.finished("one") is None
        assert {p.name for p in (tmp_path / "out").iterdir()} == {STATE, LOCK}, "nothing of the other is left"


def test_a_bundle_is_replaced_only_by_force_and_then_does_not_open_meanwhile(tmp_path: Path) -> None:
    folder = small_bundle(tmp_path / "out")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        open_(folder)
    assert (folder / MANIFEST).exists()
    with open_(folder, force=True):
        assert {p.name for p in folder.iterdir()} == {"notes.txt", STATE, LOCK}


def test_force_takes_a_bundle_whose_manifest_is_damaged(tmp_path: Path) -> None:
    folder = small_bundle(tmp_path / "out")
    (folder / MANIFEST).write_text("{")
    with open_(folder, force=True):
        assert not (folder / MANIFEST).exists()


@pytest.mark.parametrize("force", [False, True])
def test_somebody_s_folder_is_never_touched(tmp_path: Path, force: bool) -> None:
    (tmp_path / PARTIAL).mkdir()
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="other files"):
        open_(tmp_path, force=force)
    assert sorted(p.name for p in tmp_path.iterdir()) == [PARTIAL, "photo.jpg"]


def test_a_file_in_the_folder_s_place_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        open_(tmp_path / "out")
    with pytest.raises((UsageError, EnvironmentProblem)):
        open_(tmp_path / "out" / "below")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"schema": 2}', b"[" * 100_000, b"\xff"])
def test_a_damaged_state_is_named_and_force_starts_over(tmp_path: Path, raw: bytes) -> None:
    with open_(tmp_path / "out") as work:
        make(work, "one")
    (tmp_path / "out" / STATE).write_bytes(raw)
    with pytest.raises(IntegrityError, match="--force"):
        open_(tmp_path / "out")
    with open_(tmp_path / "out", force=True) as work:
        assert work.finished("one") is None


def test_a_hostile_state_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    with open_(tmp_path / "out") as work:
        make(work, "one")
    (tmp_path / "victim").write_bytes(b"x")
    state = tmp_path / "out" / STATE
    state.write_bytes(state.read_bytes().replace(b"one.tmp", b"../victim"))
    with pytest.raises(IntegrityError):
        open_(tmp_path / "out")
    assert (tmp_path / "victim").exists()


def test_links_planted_in_the_folder_do_not_lead_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    with open_(tmp_path / "out"):
        pass
    for name in (PARTIAL, "one.bin", STATE + ".tmp"):
        (tmp_path / "out" / name).symlink_to(outside / ("kept" if name != PARTIAL else ""))
    (tmp_path / "out" / LOCK).unlink()
    (tmp_path / "out" / LOCK).symlink_to(outside / "lock")
    with open_(tmp_path / "out") as work:
        make(work, "one")
        work.close()
    assert [p.name for p in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == "mine"


def _hold(
    folder: Path, held: multiprocessing.synchronize.Event, done: multiprocessing.synchronize.Event
) -> None:
    with open_(folder):
        held.set()
        done.wait(20)


def test_two_exports_never_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "out", held, done))
    other.start()
    try:
        assert held.wait(20)
        with pytest.raises(EnvironmentProblem, match="another export"):
            open_(tmp_path / "out")
    finally:
        done.set()
        other.join()
    with open_(tmp_path / "out"):
        pass


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, WontFitError), (errno.EROFS, EnvironmentProblem)])
def test_disk_errors_inside_a_step_are_told_and_leave_the_rest(
    tmp_path: Path, code: int, error: type[Exception]
) -> None:
    with open_(tmp_path / "out") as work:
        make(work, "one")
        with pytest.raises(error, match="cannot write"), work.step() as place:
            (place / "two.bin").write_bytes(b"half")
            raise OSError(code, "no", str(place / "two.bin"))
    with open_(tmp_path / "out") as work:
        assert work.finished("one") is not None
        assert work.finished("two") is None


def test_a_run_killed_after_the_manifest_but_before_the_clean_up_is_finished_by_the_next(
    tmp_path: Path,
) -> None:
    with open_(tmp_path / "out") as work:
        make(work, "one")
    small_bundle(tmp_path / "out")
    with open_(tmp_path / "out") as work:
        assert work.finished("one") is not None
        assert not (tmp_path / "out" / MANIFEST).exists()
        assert (tmp_path / "out" / "a.onnx").exists()
    small_bundle(tmp_path / "out")
    with pytest.raises(UsageError, match="--force"):
        open_(tmp_path / "out", target="other")
