"""Weight files as named tensors that are read on demand: safetensors folders and SAM 2's `.pt`.

Files are memory-mapped and nothing in them is executed. Mappings are released soon after a read, because
mapped pages count as memory in use. `checkpoint.py` knows which tensor belongs where.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pam_edge.core.errors import EnvironmentProblem, IntegrityError, UsageError

MAX_JSON_BYTES = 64 << 20
INDEX = "model.safetensors.index.json"
DTYPES = ("F32", "F16", "BF16")
REMAP = 64 << 20  # bytes read, after which a file is mapped anew


class Entry(NamedTuple):
    """One tensor: its shape without reading it, and how to read rows `start` to `stop` of it as float32."""

    shape: tuple[int, ...]
    rows: Callable[[int, int], Tensor]

    def read(self) -> Tensor:
        """The whole tensor."""
        return self.rows(0, self.shape[0] if self.shape else 1)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises IntegrityError for anything else, or EnvironmentProblem."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise IntegrityError(f"{path} is over {MAX_JSON_BYTES >> 20} MiB; refusing to read it")
        found = json.loads(path.read_bytes())
    except FileNotFoundError as e:
        raise IntegrityError(f"{path} is missing; copy or download the folder again") from e
    except OSError as e:
        raise EnvironmentProblem(f"cannot read {path}: {e.strerror}") from e
    except (ValueError, RecursionError) as e:
        raise IntegrityError(f"{path} is not valid JSON ({e}); copy or download it again") from e
    if not isinstance(found, dict):
        raise IntegrityError(f"{path} holds a JSON {type(found).__name__} where an object belongs")
    return found


def safetensors_folder(folder: Path) -> dict[str, Entry]:
    """Every tensor of a Hugging Face folder, single file or shards, by its key in the file."""
    index = folder / INDEX
    if not index.is_file():
        single = folder / "model.safetensors"
        if not single.is_file():
            raise UsageError(
                f"{folder} has neither {INDEX} nor model.safetensors; pickled weights are not read"
            )
        return safetensors_file(single)
    shards: dict[str, dict[str, Entry]] = {}
    entries: dict[str, Entry] = {}
    absent: list[str] = []
    for key, name in _weight_map(index).items():
        if name not in shards:
            shards[name] = safetensors_file(folder / name)
        if key in shards[name]:
            entries[key] = shards[name][key]
        else:
            absent.append(f"{key} ({name})")
    unlisted = [f"{key} ({name})" for name, shard in shards.items() for key in shard if key not in entries]
    if absent or unlisted:
        raise IntegrityError(
            f"{index} and its shards disagree; "
            + listing("not in the shard named", absent)
            + listing("not in the index", unlisted)
            + "download the folder again"
        )
    return entries


def _weight_map(index: Path) -> dict[str, str]:
    """The index's key -> shard table, every shard known to be a plain file name of the folder."""
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise IntegrityError(f"{index} has no weight_map; download the folder again")
    for name in set(map(str, table.values())):
        if Path(name).name != name or "\\" in name or name in ("", ".", ".."):
            raise IntegrityError(f"{index} names the shard {name!r}, which is not a plain file of its folder")
        if not (index.parent / name).is_file():
            raise IntegrityError(
                f"{index} names the shard {name!r}, which is missing; download the folder again"
            )
    return {str(key): str(name) for key, name in table.items()}


def safetensors_file(path: Path) -> dict[str, Entry]:
    """Every tensor of one safetensors file. A link is followed: download caches are made of links."""
    try:
        file: Any = safe_open(path, framework="pt")
        entries = {}
        for key in file.keys():  # noqa: SIM118  (safe_open is no mapping)
            part = file.get_slice(key)
            if part.get_dtype() not in DTYPES:
                raise IntegrityError(
                    f"{path}: {key} is {part.get_dtype()}; only {', '.join(DTYPES)} are read"
                )
            entries[key] = Entry(tuple(part.get_shape()), partial(_safetensors_rows, path, key))
        return entries
    except SafetensorError as e:
        raise IntegrityError(f"{path} is damaged or no safetensors file ({e}); download it again") from e
    except OSError as e:
        raise EnvironmentProblem(f"cannot read {path}: {e}") from e


def _safetensors_rows(path: Path, key: str, start: int, stop: int) -> Tensor:
    """A copy: the file is let go of."""
    try:
        with safe_open(path, framework="pt") as file:
            part = file.get_slice(key)
            found: Tensor = part[start:stop] if part.get_shape() else file.get_tensor(key)
            return found.to(torch.float32, copy=True)
    except (SafetensorError, OSError) as e:
        raise IntegrityError(f"{path} changed while it was read ({e}); start again") from e


def sam2_file(path: Path) -> dict[str, Entry]:
    """Every tensor of a SAM 2 checkpoint `{"model": state_dict}`. A pickle with code is refused, not run."""
    if not path.is_file():
        raise UsageError(f"no SAM 2 checkpoint at {path}")
    mapped = _Mapped(path)
    return {key: Entry(tuple(t.shape), partial(mapped.rows, key)) for key, t in mapped.tensors.items()}


class _Mapped:
    """A SAM 2 file, mapped anew whenever `REMAP` bytes of it have been read."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self.tensors = _sam2_tensors(path)

    def rows(self, key: str, start: int, stop: int) -> Tensor:
        """A copy: the file is let go of."""
        if self._read > REMAP:
            self.tensors.clear()  # the old mapping goes before the new one comes
            self.tensors, self._read = _sam2_tensors(self._path), 0
        tensor = self.tensors.get(key)
        if tensor is None:
            raise IntegrityError(f"{self._path} changed while it was read ({key} is gone); start again")
        found = (tensor[start:stop] if tensor.ndim else tensor).to(torch.float32, copy=True)
        self._read += found.nbytes
        return found


def _sam2_tensors(path: Path) -> dict[str, Tensor]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as e:
        raise IntegrityError(f"{path} is damaged or holds more than tensors; refusing to load it") from e
    except PermissionError as e:
        raise EnvironmentProblem(f"cannot read {path}: {e.strerror}") from e
    except MemoryError:
        raise
    except Exception as e:  # a damaged pickle gets torch to raise whatever there is
        raise IntegrityError(
            f"{path} is damaged or no PyTorch checkpoint; download sam2.1_hiera_large.pt again"
        ) from e
    state = found.get("model") if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping):
        raise IntegrityError(f'{path} is no SAM 2 checkpoint: it holds no {{"model": state_dict}}')
    for key, tensor in state.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise IntegrityError(f"{path}: {key!r} is no plain tensor")
        if tensor.device.type != "cpu":
            raise IntegrityError(f"{path}: {key} has no values here (it is on device {tensor.device})")
        if not tensor.is_floating_point():
            raise IntegrityError(f"{path}: {key} is {tensor.dtype} where numbers belong")
    return dict(state)


def listing(what: str, items: list[str]) -> str:
    """`what (count): the first ten; ` or nothing."""
    if not items:
        return ""
    more = ", …" if len(items) > 10 else ""
    return f"{what} ({len(items)}): {', '.join(items[:10])}{more}; "
