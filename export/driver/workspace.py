"""An export's folder while it is unfinished: which graphs are done, for which options, and nothing half-made.

A graph is made in `export.partial/`; when it is complete its files move up and `export.json` says so. What
was interrupted is therefore either done, byte for byte, or something the next run makes again. When the
bundle is written, state and scratch files go. Knows neither torch nor what the files hold.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from pam_edge.bundle.bundle import file_ref, sha256_of, through_a_link
from pam_edge.bundle.manifest import MANIFEST, FileName, FileRef, read_manifest
from pam_edge.core.errors import EnvironmentProblem, IntegrityError, PamEdgeError, UsageError, cannot_write

STATE, PARTIAL, LOCK = "export.json", "export.partial", "export.lock"
SHELF = "calibration"
MAX_STATE_BYTES = 1 << 20


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finished part of the export: files that stay, and files only the export itself needs."""

    files: tuple[FileRef, ...]
    scratch: tuple[FileRef, ...]


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """export.json. `options` is everything that the bytes depend on."""

    schema: Literal[1]
    options: dict[str, str]
    steps: dict[FileName, Step]


class Workspace:
    """The folder of one export, held by one process at a time. Use as a context manager."""

    def __init__(self, folder: Path, *, options: dict[str, str], force: bool) -> None:
        """Take the folder (made where it is not there) or refuse.

        A finished bundle, and a half-finished export with other options, need `force`; a folder that holds
        anything else is never touched. Raises UsageError, EnvironmentProblem, WontFitError.
        """
        self.folder = folder
        self._options = options
        self._steps: dict[str, Step] = {}
        self._lock: Any = None
        _refuse_strangers(folder)
        earlier = _read_state(folder / STATE, force=force)
        resumed = earlier is not None and earlier.options == options
        if (folder / MANIFEST).exists() and not (force or resumed):
            raise UsageError(f"{folder} already holds a bundle; choose another -o, or --force to replace it")
        if earlier is not None and earlier.options != options and not force:
            changed = _difference(earlier.options, options)
            raise UsageError(
                f"{folder} holds a half-finished export with other options ({changed}); "
                "give the same options to finish it, choose another -o, or --force to start over"
            )
        with self._writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            self._remove_bundle(and_its_files=not resumed)
            if earlier is not None:
                self._clear_partial()
            if earlier is not None and resumed:
                self._steps = {name: step for name, step in earlier.steps.items() if self._intact(step)}
            elif earlier is not None:
                self._remove_steps(earlier)
        self._write_state()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def shelf(self) -> Path:
        """A folder, perhaps not there yet, for how far a long step has come: of these options and no others.

        Whoever keeps something there must tell whole files from halves. It goes with the scratch files.
        """
        digest = sha256(msgspec.json.encode(self._options, order="sorted")).hexdigest()
        return self.folder / f"{SHELF}-{digest[:8]}"

    def finished(self, name: str) -> Step | None:
        """A step done earlier, its files known to be unchanged; None where it is still to do."""
        return self._steps.get(name)

    def files(self, name: str) -> tuple[FileRef, ...]:
        """Files of a finished step, in its order."""
        return self._steps[name].files

    @contextmanager
    def step(self) -> Iterator[Path]:
        """An empty folder to make a step's files in; disk errors inside become the right PamEdgeError."""
        place = self.folder / PARTIAL
        with self._writing(place):
            self._clear_partial()
            place.mkdir()
            yield place

    def keep(self, name: str, files: Sequence[str], *, scratch: Sequence[str] = ()) -> Step:
        """Move a step's files out of the partial folder and record them, in this order; `scratch` will go.

        A file in a folder of its own is named with it: `image_encoder.mlpackage/Manifest.json`. `files` are
        on the disk before anything says that they are done; a scratch file that a power cut takes is made
        again.
        """
        place = self.folder / PARTIAL
        with self._writing(self.folder):
            step = Step(
                files=tuple(file_ref(place / file, within=place) for file in files),
                scratch=tuple(file_ref(place / file, within=place) for file in scratch),
            )
            for file in files:
                with (place / file).open("r+b") as f:
                    os.fsync(f.fileno())
            for file in (*files, *scratch):
                (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
                (place / file).replace(self.folder / file)
            for left in sorted(place.rglob("*"), reverse=True):
                left.rmdir()  # folders only: a file that nobody named is a mistake
            place.rmdir()
        self._steps[name] = step
        self._write_state()
        return step

    def close(self) -> None:
        """The bundle is written: remove state and scratch files."""
        with self._writing(self.folder):
            for step in self._steps.values():
                for ref in step.scratch:
                    self._remove(ref.path)
            for left in self.folder.glob(f"{SHELF}-*"):
                shutil.rmtree(left)
            (self.folder / STATE).unlink(missing_ok=True)
            (self.folder / LOCK).unlink(missing_ok=True)

    def _remove_bundle(self, *, and_its_files: bool) -> None:
        """Whatever follows, an old bundle must not open half replaced, nor leave files nobody names."""
        path = self.folder / MANIFEST
        if not path.exists() and not path.is_symlink():
            return
        try:
            old = list(read_manifest(path).files()) if and_its_files else []
        except IntegrityError:
            old = []
        for name in (MANIFEST, *old):
            self._remove(name)

    def _remove_steps(self, earlier: State) -> None:
        """What an export with other options made: the next one may name none of it."""
        for step in earlier.steps.values():
            for ref in (*step.files, *step.scratch):
                self._remove(ref.path)
        for left in self.folder.glob(f"{SHELF}-*"):
            shutil.rmtree(left)

    def _remove(self, file: str) -> None:
        """A file of ours, and the folders that held nothing else; what a linked folder leads to is not."""
        way = file.rpartition("/")[0]
        if way and through_a_link(self.folder, way):
            return
        (self.folder / file).unlink(missing_ok=True)
        while way and (self.folder / way).is_dir() and not any((self.folder / way).iterdir()):
            (self.folder / way).rmdir()
            way = way.rpartition("/")[0]

    def _intact(self, step: Step) -> bool:
        for ref in (*step.files, *step.scratch):
            path = self.folder / ref.path
            if (
                through_a_link(self.folder, ref.path)
                or not path.is_file()
                or path.stat().st_size != ref.bytes
            ):
                return False
        return all(sha256_of(self.folder / ref.path) == ref.sha256 for ref in (*step.files, *step.scratch))

    def _write_state(self) -> None:
        path, temporary = self.folder / STATE, self.folder / (STATE + ".tmp")
        raw = msgspec.json.encode(State(schema=1, options=self._options, steps=self._steps))
        with self._writing(path):
            temporary.unlink(missing_ok=True)
            with temporary.open("xb") as f:
                f.write(raw)
                f.flush()
                os.fsync(f.fileno())
            temporary.replace(path)

    def _clear_partial(self) -> None:
        place = self.folder / PARTIAL
        if place.is_symlink():
            place.unlink()
        elif place.exists():
            shutil.rmtree(place)

    def _take_lock(self) -> None:
        """Two exports into one folder would undo each other. The system lets go of the lock when we die."""
        path = self.folder / LOCK
        if path.is_symlink():
            path.unlink()
        self._lock = path.open("ab")
        try:
            import fcntl
        except ImportError:  # not on Windows
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise EnvironmentProblem(
                f"another export is writing into {self.folder}; wait for it, or choose another -o"
            ) from e

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except PamEdgeError:
            raise
        except OSError as e:
            raise cannot_write(e.filename or path, e) from e


def _refuse_strangers(folder: Path) -> None:
    """A folder that is neither empty nor one of ours is somebody's."""
    try:
        held = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError as e:
        file = next(place for place in (folder, *folder.parents) if place.exists())
        raise UsageError(f"{file} is a file; -o {folder} wants a folder, made where it is not there") from e
    except OSError as e:
        raise EnvironmentProblem(f"cannot read {folder}: {e.strerror}") from e
    if held - {LOCK, STATE + ".tmp"} and not held & {MANIFEST, STATE}:
        raise UsageError(f"{folder} holds other files; choose a new or empty folder for -o")


def _read_state(path: Path, *, force: bool) -> State | None:
    if path.is_symlink() or not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_STATE_BYTES:
            raise msgspec.DecodeError("too large")
        return msgspec.json.decode(path.read_bytes(), type=State)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        if force:
            return None
        raise IntegrityError(f"{path} is damaged ({e}); --force starts the export over") from e
    except OSError as e:
        raise EnvironmentProblem(f"cannot read {path}: {e.strerror}") from e


def _difference(old: dict[str, str], new: dict[str, str]) -> str:
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    return "; ".join(f"{key}: {old.get(key, 'none')}, now {new.get(key, 'none')}" for key in changed)
