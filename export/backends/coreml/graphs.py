"""Stateless graphs converted to CoreML packages through torch.export.

Deployment target is iOS 18 and macOS 15, the first with attention as one operator and block-wise weights.
All graphs but the mask decoder compute in float16, the type of the Neural Engine. Knows modules and tensor
specs, not what they compute. The language decoder has its own exporter (`decoder.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import coremltools as ct
import numpy as np
import torch
from coremltools.optimize import coreml as cto
from torch import nn

from pam_edge.bundle.manifest import TensorSpec
from pam_edge.export.backends.coreml.package import conversion, save_package
from pam_edge.quantize.schemes import STATIC, Scheme

OLDEST = ct.target.iOS18
# Computed in float32: points in pixels of 1,024, where float16 has steps of half a pixel; counts of a mask's
# 65,536 pixels, more than float16 can hold; and a choice between tokens by such counts, which rounding would
# decide.
WIDE = ("mask_decoder",)
_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


def module2coreml(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    path: Path,
    *,
    scheme: Scheme,
) -> tuple[Path, ...]:
    """Write `module` as the package `path` (.mlpackage); return its files, the package's manifest first.

    Positional arguments are `inputs`, results `outputs`, in order, all float32 with fixed extents. Weights
    are as they are computed with, or 8-bit integers with a scale an output channel where `scheme` asks for
    integers in the graph that `path` is named after: activations stay floats, so nothing is calibrated. The
    same module gives the same bytes. Raises UsageError for a scheme that this has not, ValueError where an
    axis is free, WontFitError on a full disk, EnvironmentProblem where the folder cannot be written.
    """
    with conversion():
        model = _converted(module.eval(), inputs, outputs, wide=path.stem in WIDE)
        model = _narrowed(model, path.stem, scheme)
    return save_package(model, path)


def _converted(
    module: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], *, wide: bool
) -> ct.models.MLModel:
    shapes = [_extents(spec) for spec in inputs]
    with torch.no_grad():
        program = torch.export.export(module, tuple(torch.zeros(shape) for shape in shapes))
        # An empty table keeps attention, layer norm and GELU whole, and leaves the inference dialect.
        program = program.run_decompositions({})
    _drop_aliases(program.graph)
    _scale_queries(program.graph)
    return ct.convert(
        program,
        convert_to="mlprogram",
        inputs=[
            ct.TensorType(name=s.name, shape=shape, dtype=np.float32)
            for s, shape in zip(inputs, shapes, strict=True)
        ],
        outputs=[ct.TensorType(name=spec.name, dtype=np.float32) for spec in outputs],
        minimum_deployment_target=OLDEST,
        compute_precision=ct.precision.FLOAT32 if wide else ct.precision.FLOAT16,
        skip_model_load=True,
    )


def _extents(spec: TensorSpec) -> tuple[int, ...]:
    if spec.dtype != "float32" or not all(isinstance(axis, int) for axis in spec.axes):
        raise ValueError(f"{spec.name} must be float32 with fixed extents, not {spec.dtype} {spec.axes}")
    return tuple(axis for axis in spec.axes if isinstance(axis, int))


def _drop_aliases(graph: torch.fx.Graph) -> None:
    """Another name for a tensor is the tensor: coremltools knows no such operator."""
    for node in list(graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _scale_queries(graph: torch.fx.Graph) -> None:
    """CoreML's attention knows one scale, the root of the width; any other would cost the operator, and then
    all scores are held at once: the queries take the difference.
    """
    for node in list(graph.nodes):
        if node.target is _ATTENTION and node.kwargs.get("scale") is not None:
            query, *rest = node.args
            factor = node.kwargs["scale"] * math.sqrt(query.meta["val"].shape[-1])
            with graph.inserting_before(node):
                scaled = graph.call_function(torch.ops.aten.mul.Tensor, (query, factor))
            scaled.meta = dict(query.meta)
            node.args = (scaled, *rest)
            node.kwargs = {key: value for key, value in node.kwargs.items() if key != "scale"}


def _weights(model: ct.models.MLModel) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the constants that lie in the weights' file."""
    (block,) = model.get_spec().mlProgram.functions["main"].block_specializations.values()
    found = {}
    for op in block.operations:
        value = op.attributes["val"] if op.type == "const" else None
        if value is not None and value.HasField("blobFileValue"):
            (name,) = op.attributes["name"].immediateValue.tensor.strings.values
            found[name] = tuple(axis.constant.size for axis in value.type.tensorType.dimensions)
    return found


def _narrowed(model: ct.models.MLModel, graph: str, scheme: Scheme) -> ct.models.MLModel:
    """The same model, with the weights that the scheme wants as integers in 8 bits."""
    storage, chosen = partial(scheme.stored, graph, possible=(*STATIC, "q8")), {}
    config = cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", granularity="per_channel")
    for name, shape in _weights(model).items():
        match storage(name, shape):
            case "w8a8" | "q8":
                chosen[name] = config
            case _:  # computed in float16, so stored in it
                pass
    if not chosen:
        return model
    return cto.linear_quantize_weights(model, cto.OptimizationConfig(op_name_configs=chosen))
