"""4-bit blocks chosen by data: columns that are not rounded yet compensate each column's rounding error.

GPTQ (arXiv 2210.17323): the error that counts is that of a layer's outputs on its real inputs, and the second
moments of those inputs say how later columns of a weight can compensate the rounding of an earlier one.
Layers are processed in order, each fed by the quantized layers before it. Knows torch modules and blocks, no
graph, no checkpoint and no pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pam_edge.core.errors import cannot_write
from pam_edge.quantize.blockwise import Bits, Blocks, block_size, dequantize, fitted_scales, packed, rounded

Floats = npt.NDArray[np.float32]
DAMPING = 0.01  # of the mean of the diagonal: directions that no input took must not decide anything


@torch.no_grad()
def calibrated(
    layer: Callable[[int], nn.Module],
    count: int,
    sequences: Sequence[Floats],
    *,
    prefix: Callable[[int], str],
    bits: Callable[[str, tuple[int, int]], Bits | None],
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> Callable[[str], Blocks | None]:
    """Blocks for the matrices of `count` layers, by the key of each weight; None for every other key.

    `layer(i)` is a module from [1, T, H] to [1, T, H] with its weights in it; it is used up. `sequences` are
    the first layer's inputs, [T, H] each. A weight's key is `prefix(i)` and its name in the module; `bits`
    says by key and shape which are wanted, and in how many. What a layer gave is kept in `folder`, so a
    second call goes on where the first one stopped: a folder belongs to one set of weights and sequences.
    In memory are one layer, the second moments of its inputs and the sequences.
    Raises WontFitError or EnvironmentProblem where the folder cannot be written.
    """
    running = [torch.from_numpy(each)[None] for each in sequences]
    for i in range(count):
        module, path = layer(i), folder / f"layer-{i}.npz"
        linears = {
            f"{prefix(i)}{name}.weight": m for name, m in module.named_modules() if isinstance(m, nn.Linear)
        }
        wanted = {key: b for key, m in linears.items() if (b := bits(key, tuple(m.weight.shape)))}  # type: ignore[arg-type]
        held = _read(path, wanted)
        if held is None:
            moments = _moments(module, {key: linears[key] for key in wanted}, running)
            held = {key: compensated(linears[key].weight, moments[key], bits=b) for key, b in wanted.items()}
            _write(path, held)
        for key, blocks in held.items():
            matrix = linears[key].weight
            matrix.copy_(torch.from_numpy(dequantize(blocks, matrix.shape[1])))
        if i + 1 < count:
            running = [module(x) for x in running]
        progress(i + 1, count)

    def better(key: str) -> Blocks | None:
        for i in range(count):
            if key.startswith(prefix(i)):
                return (_read(folder / f"layer-{i}.npz", [key]) or {}).get(key)
        return None

    return better


def compensated(weight: Tensor, moments: Tensor, *, bits: Bits) -> Blocks:
    """Blocks of `weight` [out, in], given the second moments [in, in] of its inputs."""
    out, width = weight.shape
    block = block_size(width)
    w = weight.detach().float().clone()
    upper = _inverse_root(moments)
    codes, scales = [], []
    for start in range(0, width, block):
        part = w[:, start : start + block]  # a view: rounding goes column by column, errors to the right
        size = part.shape[1]
        padded = np.pad(part.numpy(), ((0, 0), (0, block - size)))
        matters = np.pad(moments.diagonal()[start : start + size].numpy(), (0, block - size))
        scale = fitted_scales(padded[:, None], bits=bits, weighs=matters[None])
        step = torch.from_numpy(scale)
        root = upper[start : start + size, start : start + size]
        errors, chosen = torch.empty_like(part), np.zeros((out, block), np.float32)
        for i in range(size):
            column = part[:, i]
            chosen[:, i] = rounded(column.numpy()[:, None], scale[:, 0], bits=bits)[:, 0]
            errors[:, i] = (column - torch.from_numpy(chosen[:, i]) * step[:, 0]) / root[i, i]
            part[:, i + 1 :] -= errors[:, i : i + 1] * root[i, i + 1 :]
        w[:, start + block :] -= errors @ upper[start : start + size, start + block :]
        codes.append(packed(chosen, bits=bits))
        scales.append(scale)
    return Blocks(np.stack(codes, axis=1), np.concatenate(scales, axis=1), bits, block)


def _inverse_root(moments: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped inverse."""
    damped = moments.double() if len(moments) <= 2048 else moments.clone()
    mean = damped.diagonal().mean().clamp(min=1e-12)
    damped.diagonal().add_(DAMPING * mean)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    root: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return root.float()


def _moments(
    module: nn.Module, linears: dict[str, nn.Linear], sequences: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Mean of x x^T over the inputs of each linear; linears that read the same tensor share one."""
    sums: dict[str, Tensor] = {}
    owner: dict[str, str] = {}
    read: list[tuple[Tensor, str]] = []

    def hook(key: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def watch(_: nn.Module, inputs: tuple[Tensor]) -> None:
            x = inputs[0]
            first = next((name for seen, name in read if seen is x), None)
            owner[key] = first or key
            if first is None:
                read.append((x, key))
                rows = x.reshape(-1, x.shape[-1])
                total = sums.setdefault(key, torch.zeros(x.shape[-1], x.shape[-1]))
                total.addmm_(rows.T, rows)

        return watch

    handles = [linear.register_forward_pre_hook(hook(key)) for key, linear in linears.items()]
    for x in sequences:
        module(x)
        read.clear()
    for handle in handles:
        handle.remove()
    positions = sum(x.shape[1] for x in sequences)
    for total in sums.values():
        total /= positions
    return {key: sums[name] for key, name in owner.items()}


def _read(path: Path, keys: Sequence[str] | dict[str, Bits]) -> dict[str, Blocks] | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as held:
        found = {}
        for key in keys:
            if f"{key}.codes" in held:
                codes, scales, (bits, block) = (held[f"{key}.{part}"] for part in ("codes", "scales", "kind"))
                found[key] = Blocks(codes, scales, 4 if bits == 4 else 8, int(block))
        return found


def _write(path: Path, held: dict[str, Blocks]) -> None:
    arrays: dict[str, Any] = {}
    for key, b in held.items():
        arrays |= {
            f"{key}.codes": b.codes,
            f"{key}.scales": b.scales,
            f"{key}.kind": np.array([b.bits, b.block]),
        }
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)
        temporary.replace(path)
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, e) from e
