"""Integer weights in the formats that XNNPACK multiplies.

4 bits: blocks of 32 along the input axis with one scale each, which the engine keeps in bfloat16. 8 bits: one
scale per row. Activations are quantized to 8 bits while the layer runs, with one range per position; results
are floats. torchao's tensor class carries this through the exporter. Knows keys and schemes, no graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pam_edge.bundle.config import LanguageConfig
from pam_edge.core.errors import IntegrityError, UsageError
from pam_edge.export.backends.executorch.decoder import HEAD, CachedDecoder
from pam_edge.export.backends.onnxruntime.weight_check import ROWS as CHECKED
from pam_edge.export.checkpoint.keys import EMBED_TOKENS, LM_HEAD
from pam_edge.export.decoder.onnx_graph import Stored, finely_stored_as
from pam_edge.export.decoder.tensors import Tensors
from pam_edge.quantize.blockwise import BITS, Bits, fitted_scales
from pam_edge.quantize.schemes import STATIC, Scheme
from pam_edge.verify.error_metrics import noise

BLOCK = 32
_INT4: torch.dtype = torch.int4  # type: ignore[attr-defined]  # not in torch's own stubs
_PREFIX = "language."
Net = TypeVar("Net", bound=nn.Module)


def filled(language: LanguageConfig, tensor: Callable[[str], Tensor], scheme: Scheme) -> CachedDecoder:
    """The decoder with weights from `tensor` (canonical key to float32), stored as `scheme` says.

    One float weight is in memory at a time where the scheme has integers. Raises UsageError for storage that
    the engine has not, IntegrityError for a misshaped weight.
    """
    with torch.device("meta"):
        module = CachedDecoder(language)
    for name, empty in list(module.named_parameters()):
        key = _key(name, language)
        value = tensor(key)
        if value.shape != empty.shape:
            raise IntegrityError(
                f"{key} has shape {list(value.shape)} where the variant wants {list(empty.shape)}"
            )
        held = stored(value.float(), finely_stored_as(scheme, key, tuple(value.shape)), key)
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, nn.Parameter(held, requires_grad=False))
    return _plain(module)


def in_8_bits(module: nn.Module, scheme: Scheme, graph: str) -> nn.Module:
    """The same module, a graph's, with those linear layers in 8 bits whose activations the scheme has so.

    Raises UsageError where the scheme wants weights in blocks, which a graph's are not.
    """
    for key, value in module.named_parameters():
        scheme.stored(graph, key, value.shape, possible=STATIC)
    for name, layer in module.named_modules():
        weight = f"{name}.weight"
        if isinstance(layer, nn.Linear) and scheme.storage(graph, weight, layer.weight.shape) == "w8a8":
            held = _integers(layer.weight.detach().float(), "q8", weight)
            layer.weight = nn.Parameter(held, requires_grad=False)
    return _plain(module)


def stored(weight: Tensor, storage: Stored, key: str) -> Tensor:
    """A weight [out, in] as the engine will multiply it; floats as they are."""
    match storage:
        case "float32":
            return weight
        case "q4" | "q8":
            return _integers(weight, storage, key)
        case other:
            raise UsageError(f"{key} as {other} is not possible with ExecuTorch in this version")


def weight_noise(language: LanguageConfig, tensor: Tensors, scheme: Scheme) -> tuple[float, str]:
    """Noise of the worst row of all matrices in integers, and whose it is.

    First, middle and last rows are read.
    """
    with torch.device("meta"):
        names = {name: tuple(held.shape) for name, held in CachedDecoder(language).named_parameters()}
    worst, where = 0.0, "none"
    for name, shape in names.items():
        key = _key(name, language)
        storage = finely_stored_as(scheme, key, shape)
        if storage not in ("q4", "q8"):
            continue
        rows = tensor(key)
        count = shape[0]
        for low in sorted({0, max(0, count // 2 - CHECKED // 2), max(0, count - CHECKED)}):
            wanted = np.array(rows[low : min(count, low + CHECKED)], np.float32)
            found = _integers(torch.from_numpy(wanted), storage, key).dequantize().numpy()
            lost = max(noise(a, b) for a, b in zip(found, wanted, strict=True))
            worst, where = max((worst, where), (lost, key))
    return worst, where


def _integers(weight: Tensor, storage: Stored, key: str) -> Tensor:
    from torchao.quantization.quantize_.workflows import IntxUnpackedToInt8Tensor
    from torchao.quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor import (
        IntxUnpackedToInt8TensorActivationQuantization as Activations,
    )

    if not torch.isfinite(weight).all():
        raise IntegrityError(f"{key} holds numbers that are not finite; get the checkpoint again")
    width = weight.shape[1]
    if storage == "q4" and width % BLOCK:
        raise UsageError(
            f"{key}: rows of {width} values do not divide into blocks of {BLOCK}; use scheme int8"
        )
    block = BLOCK if storage == "q4" else width
    scale = _scales(weight, block, BITS[storage])
    found: Tensor = IntxUnpackedToInt8Tensor.from_hp(
        weight,
        (1, block),
        _INT4 if storage == "q4" else torch.int8,
        activation_quantization=Activations.INT8_ASYM_PER_TOKEN,
        intx_choose_qparams_algorithm=None,
        custom_scale=scale,
        custom_zero_point=torch.zeros_like(scale, dtype=torch.int8),
    )
    return found


def _scales(weight: Tensor, block: int, bits: Bits) -> Tensor:
    """[out, blocks] float32, as the engine keeps them: above zero, in bfloat16 where blocks have 4 bits."""
    values = weight.numpy().reshape(len(weight), -1, block)
    scale = torch.from_numpy(fitted_scales(values, bits=bits, positive=True))
    scale = scale.bfloat16().float() if bits == 4 else scale
    return torch.where(scale > 0, scale, 1.0)  # a block of zeros


def _plain(module: Net) -> Net:
    """With integers and scales as tensors of their own, which torch's exporter knows."""
    if all(type(held) is nn.Parameter for held in module.parameters()):
        return module
    from torchao.utils import unwrap_tensor_subclass

    unwrap_tensor_subclass(module)
    return module


def _key(name: str, language: LanguageConfig) -> str:
    """The canonical key of a parameter."""
    if name == f"{HEAD}.weight":
        return EMBED_TOKENS if language.tied else LM_HEAD
    return f"{_PREFIX}{name}"
