"""Graphs to ExecuTorch's .pte: lowered to XNNPACK, for phones' CPUs, or to Vulkan, for their GPUs.

Knows torch's exporter and that engine, no graph.

What they do not take (of XNNPACK layer norms, index arithmetic) stays with ExecuTorch's own kernels. Inputs
are not copied into memory that the file plans: the engine reads them where the caller has them, a decoder's
cache above all.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from pam_edge.bundle.manifest import TensorSpec
from pam_edge.core.errors import EnvironmentProblem, cannot_write
from pam_edge.export.backends.quiet import quiet

logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # a word on torchao's own enumerations
try:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes import MemoryPlanningPass
except ImportError as e:
    raise EnvironmentProblem(
        f"executorch cannot be imported ({e}); pip install 'pam-edge[export,android]'"
    ) from e

_EXAMPLE = 3  # extent that stands for a free axis while tracing: 0 and 1 would be taken as fixed
SCORES = 1 << 24  # attention scores at once, 64 MB: a phone has no gigabyte for all of a global block's


def module2pte(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    path: Path,
    *,
    most: Mapping[str, int],
    gpu: bool = False,
) -> Path:
    """Write `module` as `path` (.pte) and return it.

    Positional arguments are `inputs`, results `outputs`, in order; an input named `past_key.0` and all those
    after it are one list. `most` is the largest extent of each named axis, from 1 up. `gpu`: for Vulkan.
    Raises ValueError where results are not `outputs` (a mistake in the graph's cut), WontFitError on a full
    disk, EnvironmentProblem where the folder cannot be written.
    """
    module = module.eval().requires_grad_(False)  # else the lowering refuses what is updated in place
    with quiet(""), torch.no_grad():
        # Torch's exporter wants free axes argument by argument, which `_Plain` does not name.
        plain = module if most else _Plain(module)
        program = _exported(plain, inputs, most)
        _check_results(path.name, program, outputs)
        lowered = to_edge_transform_and_lower(
            program.run_decompositions({torch.ops.aten.scaled_dot_product_attention.default: _attention}),
            partitioner=[_vulkan(free=bool(most)) if gpu else XnnpackPartitioner()],
            # The quantizer's own operators are none of the core set that the check knows.
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        ).to_executorch(
            ExecutorchBackendConfig(memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False))
        )
    try:
        with path.open("wb") as file:
            lowered.write_to_file(file)
    except OSError as e:
        raise cannot_write(path, e) from e
    return path


def _vulkan(*, free: bool) -> Any:
    level = logging.getLogger().level
    from executorch.backends.vulkan.partitioner.vulkan_partitioner import VulkanPartitioner

    logging.getLogger().setLevel(level)  # the import makes it talk
    return VulkanPartitioner({"require_dynamic_shapes": True} if free else {})


class _Plain(nn.Module):
    """A graph whose results are a plain tuple: the engine's format knows no named ones."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.held = graph

    def forward(self, *given: Any) -> tuple[Tensor, ...]:
        found = self.held(*given)
        return (found,) if isinstance(found, Tensor) else tuple(found)


def _exported(module: nn.Module, inputs: Sequence[TensorSpec], most: Mapping[str, int]) -> ExportedProgram:
    axes = dict.fromkeys(axis for spec in inputs for axis in spec.axes if isinstance(axis, str))
    free = {axis: Dim(axis, min=1, max=most[axis]) for axis in axes}
    arguments = [
        torch.zeros(
            [min(_EXAMPLE + list(axes).index(a), most[a]) if isinstance(a, str) else a for a in spec.axes],
            dtype=getattr(torch, spec.dtype),
        )
        for spec in inputs
    ]
    dynamic = [{i: free[a] for i, a in enumerate(spec.axes) if isinstance(a, str)} for spec in inputs]
    return torch.export.export(
        module,
        _packed(arguments, inputs),
        dynamic_shapes=_packed(dynamic, inputs) if axes else None,
        strict=False,
        prefer_deferred_runtime_asserts_over_guards=True,
    )


def _packed(values: Sequence[Any], inputs: Sequence[TensorSpec]) -> tuple[Any, ...]:
    """One value per argument: those of a cache are a list."""
    first = next((i for i, spec in enumerate(inputs) if spec.name == "past_key.0"), None)
    return tuple(values) if first is None else (*values[:first], list(values[first:]))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention as products and a softmax, which XNNPACK takes.

    Torch's own decomposition guards against rows without any key, which no graph of ours has, in operators
    that it does not take. Queries go in parts where all their scores would be too many at once.
    """
    if is_causal or enable_gqa or dropout_p:
        raise ValueError("attention with these options is not written for this engine")
    scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    turned = key.transpose(-2, -1)
    masks = attn_mask is not None and attn_mask.shape[-2] != 1  # one a query
    count, each = query.shape[-2], math.prod(query.shape[:-2]) * key.shape[-2]
    step = min(count, max(1, SCORES // each))
    parts = []
    for start in range(0, count, step):
        whole = step == count
        scores = (scaled if whole else scaled[..., start : start + step, :]) @ turned
        if attn_mask is not None:
            scores = scores + (attn_mask[..., start : start + step, :] if masks else attn_mask)
        parts.append(scores.softmax(-1) @ value)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)


def _check_results(file: str, program: ExportedProgram, outputs: Sequence[TensorSpec]) -> None:
    nodes = {node.name: node for node in program.graph.nodes}
    found = [nodes[name].meta["val"] for name in program.graph_signature.user_outputs]
    shapes = [(str(value.dtype).removeprefix("torch."), len(value.shape)) for value in found]
    wanted = [(spec.dtype, len(spec.axes)) for spec in outputs]
    fixed = all(
        axis == extent
        for value, spec in zip(found, outputs, strict=False)
        for extent, axis in zip(value.shape, spec.axes, strict=False)
        if isinstance(axis, int) and isinstance(extent, int)
    )
    if shapes != wanted or not fixed:
        raise ValueError(f"{file} came out as {[tuple(v.shape) for v in found]} where {outputs} was meant")
