"""CoreML programs evaluated here, where CoreML is not: the file's own operators, one by one, in numpy and
torch.

It reads what was written (spec and weights' file), so it checks the file and not what it was made from.
Results are rounded to each operator's declared type, but sums are float32 inside an operator: it tells a
wrong graph or weight from a right one, and nothing of a device's own rounding. coremltools'
`value_inference` gives what small operators do; what lacks one is spelled out here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coremltools as ct
import numpy as np
import torch
import torch.nn.functional as F
from coremltools.converters.mil.frontend import milproto
from coremltools.converters.mil.mil import types

Array = np.ndarray


class Evaluated:
    """The functions of a package."""

    def __init__(self, package: Path) -> None:
        self.spec = ct.utils.load_spec(str(package))
        weights = package / "Data" / "com.apple.CoreML" / "weights"
        version = self.spec.specificationVersion
        self.program = milproto.load.load(self.spec, version, str(weights))
        self.functions: dict[str, Any] = self.program.functions
        self._constants: dict[Any, Array] = {}

    def operators(self, function: str = "main") -> dict[str, int]:
        """How often each operator that computes occurs."""
        counts: dict[str, int] = {}
        for op in self.functions[function].operations:
            if op.op_type != "const":
                counts[op.op_type] = counts.get(op.op_type, 0) + 1
        return counts

    def new_state(self, function: str = "main") -> dict[str, Array]:
        """Empty states, by name."""
        found = {}
        for name, var in self.functions[function].inputs.items():
            if types.is_state(var.sym_type):
                inner = var.sym_type.wrapped_type()
                found[name] = np.zeros(inner.get_shape(), types.nptype_from_builtin(inner.get_primitive()))
        return found

    def run(
        self, feeds: Mapping[str, Array], *, function: str = "main", state: dict[str, Array] | None = None
    ) -> dict[str, Array]:
        """Outputs by name; `state` is written to in place."""
        held, values = self.functions[function], {}
        for name, var in held.inputs.items():
            values[var] = name if types.is_state(var.sym_type) else np.asarray(feeds[name])
            if not types.is_state(var.sym_type) and values[var].shape != tuple(var.shape):
                raise ValueError(f"{name} is {values[var].shape}, the file wants {tuple(var.shape)}")
        for op in held.operations:
            results = self._results(op, values, {} if state is None else state)
            for var, result in zip(op.outputs, results, strict=True):
                values[var] = np.asarray(result, dtype=types.nptype_from_builtin(var.dtype))
                if values[var].shape != tuple(var.shape):
                    raise ValueError(f"{op.op_type} {op.name} gave {values[var].shape}, not {var.shape}")
        return {var.name: values[var] for var in held.outputs}

    def _results(self, op: Any, values: Mapping[Any, Any], state: dict[str, Array]) -> list[Array]:
        if op.op_type == "const" or op.op_type.startswith("constexpr_"):
            if op not in self._constants:
                whole = op.op_type == "const"
                self._constants[op] = op.outputs[0].val if whole else op.materialized_val_inference()
            return [self._constants[op]]
        given = {name: _value(var, values) for name, var in op.inputs.items() if var is not None}
        if op.op_type == "read_state":
            return [state[given["input"]].copy()]
        if op.op_type == "coreml_update_state":
            state[given["state"]][...] = given["value"]
            return [given["value"]]
        if op.op_type in SPELLED_OUT:
            return [SPELLED_OUT[op.op_type](given)]
        return _inferred(op, given)


def _value(var: Any, values: Mapping[Any, Any]) -> Any:
    if isinstance(var, (list, tuple)):
        return [values[v] for v in var]
    return values[var]


def _inferred(op: Any, given: Mapping[str, Any]) -> list[Array]:
    """What coremltools itself folds this operator to, given values for all its inputs."""
    kept = []
    for name, var in op.inputs.items():
        several = isinstance(var, (list, tuple))
        for v, value in zip(var, given[name], strict=True) if several else [(var, given[name])]:
            if v.val is None:  # a constant is there already, in the very type that the operator wants
                kept.append(v)
                v._sym_val = SimpleNamespace(val=value)
    try:
        found = op.value_inference()
    finally:
        for v in kept:
            v._sym_val = None
    if found is None:
        raise NotImplementedError(f"nobody knows what {op.op_type} gives")
    return list(found) if len(op.outputs) > 1 else [found]


def _torch(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(x, dtype=np.float32))


def _pads(g: Mapping[str, Any], rank: int) -> tuple[list[int], list[int]]:
    if str(g["pad_type"]) == "valid":
        return [0] * rank, [0] * rank
    if str(g["pad_type"]) != "custom":
        raise NotImplementedError(g["pad_type"])
    pad = [int(n) for n in g["pad"]]
    return pad[::2], pad[1::2]


def _conv(g: Mapping[str, Any]) -> Array:
    before, after = _pads(g, len(g["strides"]))
    if before != after:
        raise NotImplementedError("uneven padding")
    bias = _torch(g["bias"]) if g.get("bias") is not None else None
    out = F.conv2d(
        _torch(g["x"]),
        _torch(g["weight"]),
        bias,
        tuple(map(int, g["strides"])),
        before,
        tuple(map(int, g["dilations"])),
        int(g["groups"]),
    )
    return out.numpy()


def _conv_transpose(g: Mapping[str, Any]) -> Array:
    before, after = _pads(g, len(g["strides"]))
    if any((*before, *after)):
        raise NotImplementedError("padding")
    bias = _torch(g["bias"]) if g.get("bias") is not None else None
    return F.conv_transpose2d(
        _torch(g["x"]), _torch(g["weight"]), bias, tuple(map(int, g["strides"]))
    ).numpy()


def _attention(g: Mapping[str, Any]) -> Array:
    mask = g.get("attn_mask")
    if mask is not None:
        mask = torch.from_numpy(np.array(mask)) if mask.dtype == bool else _torch(mask)
    return F.scaled_dot_product_attention(
        _torch(g["query"]), _torch(g["key"]), _torch(g["value"]), mask
    ).numpy()


def _layer_norm(g: Mapping[str, Any]) -> Array:
    x = _torch(g["x"])
    axes = [int(a) % x.dim() for a in g["axes"]]
    if axes != [x.dim() - 1]:
        raise NotImplementedError(f"layer_norm over {axes}")
    gamma, beta = (_torch(g[k]) if g.get(k) is not None else None for k in ("gamma", "beta"))
    return F.layer_norm(x, x.shape[-1:], gamma, beta, float(g["epsilon"])).numpy()


def _pool(g: Mapping[str, Any]) -> Array:
    before, after = _pads(g, len(g["strides"]))
    if any((*before, *after)):
        raise NotImplementedError("padding")
    return F.max_pool2d(
        _torch(g["x"]), tuple(map(int, g["kernel_sizes"])), tuple(map(int, g["strides"]))
    ).numpy()


def _gelu(g: Mapping[str, Any]) -> Array:
    modes = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}
    return F.gelu(_torch(g["x"]), approximate=modes[str(g["mode"])]).numpy()


def _reduced(f: Callable[..., torch.Tensor]) -> Callable[[Mapping[str, Any]], Array]:
    def reduce(g: Mapping[str, Any]) -> Array:
        axes = [int(a) for a in np.atleast_1d(g["axes"])]
        return f(_torch(g["x"]), dim=axes, keepdim=bool(g["keep_dims"])).numpy()

    return reduce


def _slice_update(g: Mapping[str, Any]) -> Array:
    if any(np.any(g.get(k)) for k in ("begin_mask", "end_mask", "squeeze_mask") if g.get(k) is not None):
        raise NotImplementedError("slice_update with masks")
    out = np.array(g["x"])
    place = tuple(slice(int(a), int(b)) for a, b in zip(g["begin"], g["end"], strict=True))
    if out[place].shape != g["update"].shape:
        raise ValueError(f"an update of {g['update'].shape} for {out[place].shape}")
    out[place] = g["update"]
    return out


def _slice_by_size(g: Mapping[str, Any]) -> Array:
    out = g["x"][tuple(slice(int(a), int(a) + int(n)) for a, n in zip(g["begin"], g["size"], strict=True))]
    if out.shape != tuple(int(n) for n in g["size"]):
        raise ValueError(f"a slice of {list(g['size'])} at {list(g['begin'])} leaves {g['x'].shape}")
    return out


def _upsampled(mode: str) -> Callable[[Mapping[str, Any]], Array]:
    def upsample(g: Mapping[str, Any]) -> Array:
        factors = float(g["scale_factor_height"]), float(g["scale_factor_width"])
        corners = {} if mode == "nearest" else {"align_corners": bool(g["align_corners"])}
        return F.interpolate(_torch(g["x"]), scale_factor=factors, mode=mode, **corners).numpy()

    return upsample


SPELLED_OUT: dict[str, Callable[[Mapping[str, Any]], Array]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "gelu": _gelu,
    "layer_norm": _layer_norm,
    "linear": lambda g: F.linear(_torch(g["x"]), _torch(g["weight"]), _torch(g["bias"])).numpy(),
    "matmul": lambda g: (
        np.swapaxes(_torch(g["x"]).numpy(), -1, -2) if g["transpose_x"] else _torch(g["x"]).numpy()
    )
    @ (np.swapaxes(_torch(g["y"]).numpy(), -1, -2) if g["transpose_y"] else _torch(g["y"]).numpy()),
    "max_pool": _pool,
    "reduce_argmax": lambda g: (
        np.expand_dims(g["x"].argmax(int(g["axis"])), int(g["axis"]))
        if g["keep_dims"]
        else g["x"].argmax(int(g["axis"]))
    ),
    "reduce_mean": _reduced(torch.mean),
    "reduce_sum": _reduced(torch.sum),
    "scaled_dot_product_attention": _attention,
    "silu": lambda g: F.silu(_torch(g["x"])).numpy(),
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
    "upsample_bilinear": _upsampled("bilinear"),
    "upsample_nearest_neighbor": _upsampled("nearest"),
}
