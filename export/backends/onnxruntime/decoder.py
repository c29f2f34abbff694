"""The language model as one ONNX graph for ONNX Runtime, built node by node, with weights in a second file.

The graph is written from the configuration alone; weights are then written one at a time, so the memory
needed is that of the largest tensor, whatever the size of the model. It uses ONNX Runtime's own operators
(`com.microsoft`) because they update the cache in place. Knows no checkpoint format, no prompt and no engine
settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from pam_edge.bundle.config import LanguageConfig
from pam_edge.bundle.manifest import Embedding, FileRef, TensorSpec
from pam_edge.core.errors import cannot_write
from pam_edge.export.checkpoint.keys import EMBED_TOKENS
from pam_edge.export.decoder.onnx_graph import EMBEDDING as EMBEDDING
from pam_edge.export.decoder.onnx_graph import NAME as NAME
from pam_edge.export.decoder.onnx_graph import WEIGHTS, DecoderGraph, stored_as, table_weight
from pam_edge.export.decoder.tensors import Better, Tensors, Weight, write
from pam_edge.quantize.blockwise import BITS, block_size
from pam_edge.quantize.schemes import FP32, Scheme

GRAPH = "decoder.onnx"

Progress = Callable[[int, int], None]  # bytes written, bytes in all


def language2onnx(
    language: LanguageConfig,
    tensor: Tensors,
    folder: Path,
    *,
    scheme: Scheme = FP32,
    better: Better = lambda key: None,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Write `decoder.onnx`, `decoder.bin` and `embedding.bin` into `folder`; return them in that order.

    `tensor` gives weights by canonical key (`language.layers.0.self_attn.q_proj.weight`, ...), shapes as in
    Qwen2's own files. It is called once a key; nothing it returns is kept. Where the scheme asks for blocks,
    `better` is asked first, with the key, for blocks of that scheme's bits. `embedding.bin` is the embedding
    [V, H], row-major, stored as `scheme` says, and where `language.tied` the graph's head as well.
    Raises IntegrityError for a misshaped weight, UsageError for storage that this graph has not, WontFitError
    on a full disk, EnvironmentProblem where the folder cannot be written.
    """
    graph = DecoderGraph(language, scheme)
    model = graph.build(*decoder_specs(language))
    files = (folder / GRAPH, folder / WEIGHTS, folder / EMBEDDING)
    everything = [*graph.weights, table_weight(language, scheme)]
    total, done = sum(w.end - w.offset for w in everything), 0
    try:
        with ExitStack() as stack:
            opened = {path.name: stack.enter_context(path.open("wb")) for path in files[1:]}
            for weight in everything:
                write(opened[weight.file], weight, tensor, language=language, better=better)
                done += weight.end - weight.offset
                if progress is not None:
                    progress(done, total)
        files[0].write_bytes(model.SerializeToString(deterministic=True))
    except OSError as e:
        raise cannot_write(f"the decoder into {folder}", e) from e
    return files


def planned(language: LanguageConfig, scheme: Scheme) -> tuple[Weight, ...]:
    """Every weight of the files that `language2onnx` writes, a tied head and embedding once."""
    graph = DecoderGraph(language, scheme)
    graph.build(*decoder_specs(language))
    return (*graph.weights, table_weight(language, scheme))


def embedding_record(language: LanguageConfig, scheme: Scheme, file: FileRef) -> Embedding:
    """What bundle.json says of the `embedding.bin` that `language2onnx` wrote at that scheme."""
    shape = (language.vocab_size, language.hidden_size)
    dtype = stored_as(scheme, EMBED_TOKENS, shape)
    return Embedding(
        file=file, dtype=dtype, shape=shape, block=block_size(shape[1]) if dtype in BITS else None
    )


def decoder_specs(language: LanguageConfig) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of the decoder graph, as in bundle.json.

    `seqlens_k` is each row's length after this call, minus one; `total_sequence_length` the longest row's
    length after it. `present_*` may be the same memory as `past_*`. With more than one position a call and
    something in the cache, the engine takes one row at a time.
    """

    def cache(prefix: str, positions: str) -> Iterator[TensorSpec]:
        axes = ("batch", language.kv_heads, positions, language.head_dim)
        for i in range(language.layers):
            for kind in ("key", "value"):
                yield TensorSpec(name=f"{prefix}_{kind}.{i}", dtype="float32", axes=axes)

    inputs = (
        TensorSpec(name="embeds", dtype="float32", axes=("batch", "tokens", language.hidden_size)),
        TensorSpec(name="seqlens_k", dtype="int32", axes=("batch",)),
        TensorSpec(name="total_sequence_length", dtype="int32", axes=()),
        *cache("past", "capacity"),
    )
    logits = TensorSpec(name="logits", dtype="float32", axes=("batch", language.vocab_size))
    return inputs, (logits, *cache("present", "present"))
