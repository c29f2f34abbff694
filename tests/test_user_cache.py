"""The user's cache folder: where it is, and that no state of the file system breaks or misleads anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pam_edge.core import user_cache

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links, modes and owners of POSIX")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(user_cache.ENV, str(folder))
    return folder


def test_the_folder_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (user_cache.ENV, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr(sys, "platform", "linux")
    assert user_cache.cache_folder() == Path("/home/someone/.cache/pam-edge")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert user_cache.cache_folder() == Path("/home/someone/.cache/pam-edge")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/caches")
    assert user_cache.cache_folder() == Path("/var/caches/pam-edge")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert user_cache.cache_folder() == Path("/home/someone/Library/Caches/pam-edge")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/profile/local")
    assert user_cache.cache_folder() == Path("/profile/local/pam-edge")
    monkeypatch.setenv(user_cache.ENV, "/elsewhere")
    assert user_cache.cache_folder() == Path("/elsewhere")


def test_what_is_kept_is_found_and_replaced(root: Path) -> None:
    assert user_cache.find("a/b") is None
    assert user_cache.read("a/b", limit=10) is None
    assert user_cache.write("a/b", b"one")
    assert user_cache.write("a/b", b"two")
    assert user_cache.read("a/b", limit=3) == b"two"
    assert user_cache.read("a/b", limit=2) is None
    assert [path.name for path in (root / "a").iterdir()] == ["b"]  # no temporary name is left
    user_cache.remove("a/b")
    assert user_cache.find("a/b") is None


def test_a_folder_is_kept_whole_and_the_first_stays(root: Path) -> None:
    for content in ("first", "second"):
        with user_cache.writing("models/m") as path:
            assert path is not None
            path.mkdir()
            (path / "graph.onnx").write_text(content)
    found = user_cache.find("models/m")
    assert found is not None
    assert (found / "graph.onnx").read_text() == "first"
    assert [path.name for path in (root / "models").iterdir()] == ["m"]
    user_cache.remove("models/m")
    assert user_cache.find("models/m") is None


def test_an_interrupted_write_keeps_nothing(root: Path) -> None:
    with pytest.raises(KeyboardInterrupt), user_cache.writing("a") as path:
        assert path is not None
        path.write_bytes(b"half")
        raise KeyboardInterrupt
    with user_cache.writing("a"):
        pass  # nothing written
    assert list(root.iterdir()) == []


def test_what_a_killed_process_left_goes(root: Path) -> None:
    assert user_cache.write("a", b"x")
    (root / ".new-old").mkdir()
    (root / ".new-young").mkdir()
    os.utime(root / ".new-old", (0, 0))
    assert user_cache.write("a", b"y")
    assert sorted(path.name for path in root.iterdir()) == [".new-young", "a"]


def test_planted_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "f").write_bytes(b"theirs")
    root.mkdir(mode=0o700)
    (root / "a").symlink_to(victim)
    (root / "f").symlink_to(victim / "f")
    assert user_cache.read("a/f", limit=99) is None
    assert user_cache.read("f", limit=99) is None
    assert not user_cache.write("a/f", b"ours")
    assert user_cache.write("f", b"ours")  # replaces the link itself
    assert (victim / "f").read_bytes() == b"theirs"
    user_cache.remove("a")
    assert (victim / "f").exists()


def test_a_folder_open_to_others_is_not_used(root: Path) -> None:
    assert user_cache.write("a", b"x")
    root.chmod(0o777)
    assert not user_cache.usable()
    assert user_cache.read("a", limit=9) is None
    assert not user_cache.write("a", b"y")


def test_a_folder_of_another_user_is_not_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_cache.write("a", b"x")
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert user_cache.read("a", limit=9) is None
    assert not user_cache.write("a", b"y")


@pytest.mark.parametrize("where", ["/proc/no/such", "/dev/null", "/dev/null/below"])
def test_an_unusable_folder_breaks_nothing(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(user_cache.ENV, where)
    assert not user_cache.usable()
    assert not user_cache.write("a/b", b"x")
    assert user_cache.read("a/b", limit=9) is None
    user_cache.remove("a/b")


def test_without_a_home_there_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (user_cache.ENV, "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the user is not in any list
    monkeypatch.setattr(sys, "platform", "linux")
    assert user_cache.cache_folder() is None
    assert not user_cache.write("a", b"x")
    assert user_cache.read("a", limit=9) is None


@pytest.mark.parametrize("place", ["", "..", "a/../b", "/a", "a//b", "a\n", "a/.hidden"])
def test_places_are_plain_names(root: Path, place: str) -> None:
    with pytest.raises(ValueError, match="not a place"):
        user_cache.find(place)
