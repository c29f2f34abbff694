"""Fixtures that several tests share. The golden checkpoint is written once a session, if asked for."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import pytest
from no_skips import pytest_make_collect_report, pytest_runtest_makereport
from slow_files import pytest_collection_modifyitems

if TYPE_CHECKING:
    from exported import Exported
    from golden.seeded import GoldenFolder
    from golden.torch_side import Model

    from pam_edge.export.checkpoint.checkpoint import Checkpoint

__all__ = [  # hooks
    "pytest_collection_modifyitems",
    "pytest_make_collect_report",
    "pytest_runtest_makereport",
]


@pytest.fixture(scope="session")
def golden() -> dict[str, npt.NDArray[Any]]:
    """The original's outputs: every array of golden.npz by its key."""
    from golden.reference import golden

    return golden()


@pytest.fixture(scope="session")
def golden_folder(tmp_path_factory: pytest.TempPathFactory) -> GoldenFolder:
    """The golden checkpoint on disk: `.weights`, `.sam2`, `.sam2_config`."""
    from golden.seeded import write_golden_folder

    return write_golden_folder(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="session")
def golden_checkpoint(golden_folder: GoldenFolder) -> Checkpoint:
    """The golden checkpoint, opened."""
    from pam_edge.export.checkpoint.checkpoint import open_checkpoint

    return open_checkpoint(
        str(golden_folder.weights), sam2=golden_folder.sam2, sam2_config=golden_folder.sam2_config
    )


@pytest.fixture(scope="session")
def golden_model(golden_checkpoint: Checkpoint) -> Model:
    """The golden checkpoint in our PyTorch modules."""
    from golden.torch_side import Model

    return Model.load(golden_checkpoint)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """`random:nano` exported for the CPU, once for all workers: do not write into it."""
    from exported import export_nano

    with _alone(tmp_path_factory, "nano") as folder:
        return export_nano(folder)


@pytest.fixture(scope="session")
def float_nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nano's own weights at fp16, once for all workers: do not write into it."""
    from exported import export_trained

    with _alone(tmp_path_factory, "float-nano") as folder:
        return export_trained(folder)


@pytest.fixture(scope="session", autouse=True)
def _own_user_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the cache folder of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAM_EDGE_CACHE", str(tmp_path_factory.mktemp("user-cache")))
        yield


@contextmanager
def _alone(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """A folder that all workers share, one at a time."""
    shared = factory.getbasetemp()
    shared = shared.parent if "popen-gw" in shared.name else shared
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield shared / name


@pytest.fixture
def folder(golden_folder: GoldenFolder, tmp_path: Path) -> GoldenFolder:
    """The golden checkpoint, this test's own to spoil."""
    weights, sam2 = tmp_path / "PAM-tiny", tmp_path / "sam2_tiny.pt"
    shutil.copytree(golden_folder.weights, weights)
    shutil.copy(golden_folder.sam2, sam2)
    return type(golden_folder)(weights, sam2, golden_folder.sam2_config)


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden scene as a picture file of 200 x 150 pixels."""
    from PIL import Image

    from pam_edge.export.reference.golden import picture

    path = tmp_path_factory.mktemp("photo") / "scene.png"
    Image.fromarray(picture(200)[:150]).save(path)
    return path


@pytest.fixture
def bundle(exported: Exported, tmp_path: Path) -> Path:
    """A copy of `exported` to spoil."""
    return exported.copy(tmp_path / "bundle")


@pytest.fixture(scope="module")
def mac() -> Iterator[None]:
    """CoreML's stand-in in its place, for every test of a file."""
    pytest.importorskip("coremltools")
    from fake_coreml import away, on_a_mac

    with pytest.MonkeyPatch.context() as patch:
        on_a_mac(patch)
        yield
    away()
