"""A language model of a few thousand weights and its bundle, to hold every engine to the contract."""

from __future__ import annotations

import zlib
from pathlib import Path

import msgspec
import numpy as np

from pam_edge.bundle.bundle import Bundle, file_ref
from pam_edge.bundle.config import NANO, LanguageConfig, Variant
from pam_edge.bundle.manifest import Embedding, FileRef, Graph, Manifest, Prompts, Weights
from pam_edge.export.backends.onnxruntime.decoder import decoder_specs, embedding_record, language2onnx
from pam_edge.quantize.schemes import FP32, Scheme

TINY = LanguageConfig(
    vocab_size=97, hidden_size=48, layers=3, heads=4, kv_heads=2, mlp=112, head_dim=16, max_length=700
)


def weight_shapes(lm: LanguageConfig) -> dict[str, tuple[int, ...]]:
    """Canonical keys and shapes of a Qwen2, as its own files have them."""
    q, kv = lm.heads * lm.head_dim, lm.kv_heads * lm.head_dim
    shapes: dict[str, tuple[int, ...]] = {"language.embed_tokens.weight": (lm.vocab_size, lm.hidden_size)}
    for i in range(lm.layers):
        at = f"language.layers.{i}"
        for name, out in (("q", q), ("k", kv), ("v", kv)):
            shapes[f"{at}.self_attn.{name}_proj.weight"] = (out, lm.hidden_size)
            shapes[f"{at}.self_attn.{name}_proj.bias"] = (out,)
        shapes[f"{at}.self_attn.o_proj.weight"] = (lm.hidden_size, q)
        for name in ("gate", "up"):
            shapes[f"{at}.mlp.{name}_proj.weight"] = (lm.mlp, lm.hidden_size)
        shapes[f"{at}.mlp.down_proj.weight"] = (lm.hidden_size, lm.mlp)
        shapes[f"{at}.input_layernorm.weight"] = (lm.hidden_size,)
        shapes[f"{at}.post_attention_layernorm.weight"] = (lm.hidden_size,)
    shapes["language.norm.weight"] = (lm.hidden_size,)
    if not lm.tied:
        shapes["language.lm_head.weight"] = (lm.vocab_size, lm.hidden_size)
    return shapes


def tiny_weights(lm: LanguageConfig) -> dict[str, np.ndarray]:
    """Seeded weights, loud enough that attention and position matter."""
    weights = {}
    for key, shape in weight_shapes(lm).items():
        x = np.random.default_rng([3, zlib.crc32(key.encode())]).standard_normal(shape, dtype=np.float32)
        if len(shape) > 1:
            weights[key] = x * np.float32(2 / np.sqrt(shape[1]))
        else:
            weights[key] = x * np.float32(0.2) + np.float32("norm" in key)
    return weights


def tiny_bundle(folder: Path, lm: LanguageConfig = TINY, scheme: Scheme = FP32) -> Bundle:
    """Export the tiny decoder into `folder` and open it."""
    written = language2onnx(lm, tiny_weights(lm).__getitem__, folder, scheme=scheme)
    files = tuple(map(file_ref, written))
    inputs, outputs = decoder_specs(lm)
    variant = msgspec.structs.replace(NANO, name="tiny", language=lm)
    graph = Graph(name="decoder", files=files, inputs=inputs, outputs=outputs)
    manifest = tiny_manifest(variant, (graph,), files[2])
    embedding = embedding_record(lm, scheme, files[2])
    return Bundle(folder, msgspec.structs.replace(manifest, embedding=embedding))


def tiny_pte(folder: Path, lm: LanguageConfig = TINY, scheme: Scheme = FP32) -> Bundle:
    """The same for ExecuTorch. Wants that package."""
    import torch

    from pam_edge.export.backends.executorch.decoder import ROWS, TOKENS, cached_specs
    from pam_edge.export.backends.executorch.graphs import module2pte
    from pam_edge.export.backends.executorch.weights import filled
    from pam_edge.export.decoder.embedding_file import language2embedding

    weights = tiny_weights(lm)
    inputs, outputs = cached_specs(lm)
    module = filled(lm, lambda key: torch.from_numpy(weights[key]), scheme)
    most = {"rows": ROWS, "tokens": TOKENS, "capacity": lm.max_length}
    written = module2pte(module, inputs, outputs, folder / "decoder.pte", most=most)
    table = file_ref(language2embedding(lm, weights.__getitem__, folder, scheme=scheme))
    variant = msgspec.structs.replace(NANO, name="tiny", language=lm)
    graph = Graph(name="decoder", files=(file_ref(written), table), inputs=inputs, outputs=outputs)
    manifest = msgspec.structs.replace(tiny_manifest(variant, (graph,), table), runtime="executorch")
    embedding = embedding_record(lm, scheme, table)
    return Bundle(folder, msgspec.structs.replace(manifest, embedding=embedding))


def tiny_package(folder: Path, lm: LanguageConfig = TINY) -> Bundle:
    """The same for CoreML, in float16. Wants coremltools."""
    from pam_edge.export.backends.coreml.decoder import decoder_specs, language2coreml
    from pam_edge.export.decoder.embedding_file import language2embedding
    from pam_edge.quantize.schemes import scheme_named

    tensor, package = tiny_weights(lm).__getitem__, folder / "decoder.mlpackage"
    written = language2coreml(lm, tensor, package, scheme=scheme_named("fp16"))
    table = file_ref(language2embedding(lm, tensor, folder, scheme=FP32))
    variant = msgspec.structs.replace(NANO, name="tiny", language=lm)
    inputs, outputs = decoder_specs(lm)
    files = (*(file_ref(path, within=folder) for path in written), table)
    graph = Graph(name="decoder", files=files, inputs=inputs, outputs=outputs)
    return Bundle(folder, msgspec.structs.replace(tiny_manifest(variant, (graph,), table), runtime="coreml"))


def tiny_manifest(variant: Variant, graphs: tuple[Graph, ...], embedding: FileRef) -> Manifest:
    """A manifest of graphs alone: no tokenizer and no prompts, which no engine reads."""
    nothing = FileRef(path="nothing", bytes=0, sha256="0" * 64)
    shape = (variant.language.vocab_size, variant.language.hidden_size)
    return Manifest(
        schema=1,
        variant=variant,
        weights=Weights(kind="random", source="random:tiny"),
        target="cpu",
        runtime="onnxruntime",
        scheme="fp32",
        graphs=graphs,
        embedding=Embedding(file=embedding, dtype="float32", shape=shape),
        tokenizer=nothing,
        prompts=Prompts(before="", after="{task}", tasks={}),
        stop_ids=(0,),
        tools={},
        golden=nothing,
        verification=None,
    )
