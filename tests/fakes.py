"""A bundle and an engine of plain numpy that keep the protocols and remember every call: nothing is learned
here.

The fake decoder reads token ids back from its embeddings (column 0) and what region it was shown (column
1), so a test says what it "knows" as a function from (region, ids after the region) to the answer's ids.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from pam_edge.bundle.bundle import Bundle, file_ref
from pam_edge.bundle.config import NANO
from pam_edge.bundle.manifest import Embedding, FileRef, Graph, Manifest, TensorSpec, Weights
from pam_edge.core.errors import WontFitError
from pam_edge.pipeline.pam import Pam
from pam_edge.runtimes.common.open_graphs import Engine
from pam_edge.text.tokenization import PAM_PROMPTS

HIDDEN = 8
S, C = NANO.vision.image_size, NANO.vision.d_model
E, R = NANO.vision.embed_size, NANO.region_tokens
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
STOP = 2

Knows = Callable[[float, tuple[int, ...]], Sequence[int]]


def byte_tokenizer(*, added: Sequence[tuple[str, bool]] = ()) -> bytes:
    """tokenizer.json of a byte-level BPE without merges: every byte a token, after the three control tokens.

    `added` are further added tokens as (text, special).
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIALS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    described = json.loads(tokenizer.to_str())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokens = [*((s, True) for s in SPECIALS), *added]
    ids = [*range(3), *range(len(vocab), len(vocab) + len(added))]
    described["added_tokens"] = [
        {"id": i, "content": text, "special": special, **flags}
        for i, (text, special) in zip(ids, tokens, strict=True)
    ]
    return json.dumps(described).encode()


VOCABULARY = len(SPECIALS) + 256


def spelled(text: str) -> list[int]:
    """Ids of a text under `byte_tokenizer`."""
    return list(Tokenizer.from_str(byte_tokenizer().decode()).encode(text).ids)


@dataclass
class Log:
    """What the engine was asked to do."""

    graphs: list[str] = field(default_factory=list)  # every run of a session, by graph
    feeds: list[dict[str, np.ndarray]] = field(default_factory=list)
    prefills: list[tuple[int, ...]] = field(default_factory=list)  # positions per row
    steps: list[int] = field(default_factory=list)  # rows
    opened: int = 0  # decoders


class FakeSession:
    def __init__(self, graph: str, log: Log) -> None:
        self.graph, self.log = graph, log

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.log.graphs.append(self.graph)
        self.log.feeds.append(dict(feeds))
        return getattr(self, "_" + self.graph)(**feeds)

    def _image_encoder(self, image: np.ndarray) -> dict[str, np.ndarray]:
        assert image.shape == (1, 3, S, S) and image.dtype == np.float32
        embed = np.full((1, C, E, E), image.mean(), np.float32)
        return {
            "image_embed": embed,
            "high_res_0": np.zeros((1, C // 8, 4 * E, 4 * E), np.float32),
            "high_res_1": np.zeros((1, C // 4, 2 * E, 2 * E), np.float32),
        }

    def _mask_decoder(self, **feeds: np.ndarray) -> dict[str, np.ndarray]:
        """A disc around the middle of all real points, or the mask prompt itself where there is no point."""
        coords, labels = feeds["point_coords"][0], feeds["point_labels"][0]
        real = coords[labels >= 0]
        side = 4 * E
        if len(real):
            x, y = real.mean(axis=0) * side / S
            yy, xx = np.mgrid[:side, :side] + 0.5
            logits = (10 - np.hypot(xx - x, yy - y)).astype(np.float32)
        else:
            logits = feeds["mask_prompt"][0, 0]
        told = float(real.sum()) + float(feeds["mask_prompt"].sum()) + float(feeds["image_embed"].mean())
        return {
            "masks": logits[None, None],
            "iou": np.array([[0.75]], np.float32),
            "object_score": np.array([[3.5]], np.float32),
            "object_pointer": np.zeros((1, C), np.float32),
            "region_embed": np.full((1, C, E, E), told, np.float32),
            "mask_tokens": np.zeros((1, 2, C), np.float32),
        }

    def _perceiver(self, region_embed: np.ndarray, mask_tokens: np.ndarray) -> dict[str, np.ndarray]:
        assert mask_tokens.shape == (1, 2, C)
        tokens = np.zeros((1, R, HIDDEN), np.float32)
        tokens[..., 0], tokens[..., 1] = -1, region_embed.mean()
        return {"region_tokens": tokens}


class FakeDecoder:
    """Keeps every position it was given; answers from `knows`, with noise that depends on the row's history
    alone.
    """

    def __init__(self, knows: Knows, log: Log, *, max_length: int = 10_000, noise: float = 0.0) -> None:
        self.knows, self.log, self.max_length, self.noise = knows, log, max_length, noise
        self.rows: list[list[np.ndarray]] = [[]]

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(len(row) for row in self.rows)

    def embed(self, tokens: Sequence[int]) -> np.ndarray:
        out = np.zeros((len(tokens), HIDDEN), np.float32)
        out[:, 0] = tokens
        return out

    def prefill(self, embeds: Sequence[np.ndarray]) -> np.ndarray:
        assert len(embeds) == len(self.rows)
        self.log.prefills.append(tuple(len(e) for e in embeds))
        for row, new in zip(self.rows, embeds, strict=True):
            assert new.shape[1] == HIDDEN and new.dtype == np.float32 and len(new) >= 1
            row.extend(new)
        return self._logits()

    def step(self, tokens: Sequence[int]) -> np.ndarray:
        assert len(tokens) == len(self.rows)
        self.log.steps.append(len(tokens))
        for row, embed in zip(self.rows, self.embed(tokens), strict=True):
            row.append(embed)
        return self._logits()

    def branch(self, rows: int) -> FakeDecoder:
        assert len(self.rows) == 1
        new = FakeDecoder(self.knows, self.log, max_length=self.max_length, noise=self.noise)
        new.rows = [list(self.rows[0]) for _ in range(rows)]
        return new

    def keep(self, rows: Sequence[int]) -> None:
        self.rows = [self.rows[i] for i in rows]

    def rewind(self, length: int) -> None:
        self.rows = [row[:length] for row in self.rows]

    def _logits(self) -> np.ndarray:
        if max(self.lengths) > self.max_length:
            raise WontFitError("the fake cache is full")
        return np.stack([self._row(row) for row in self.rows])

    def _row(self, row: list[np.ndarray]) -> np.ndarray:
        logits = np.zeros(VOCABULARY, np.float32)
        first = next((i for i, v in enumerate(row) if v[0] == -1), None)
        if first is not None and row[-1][0] != -1:
            last = next(i for i in range(len(row) - 1, -1, -1) if row[i][0] == -1)
            after = tuple(int(v[0]) for v in row[last + 1 :])
            # "assistant\n" ends the question; what follows was generated.
            marker = tuple(spelled("assistant\n"))
            ends = [i for i in range(len(after)) if after[i : i + len(marker)] == marker]
            if ends:
                end = ends[0] + len(marker)
                answer = self.knows(float(row[first][1]), after[:end])
                said = len(after) - end
                logits[answer[said] if said < len(answer) else STOP] = 20
        if not self.noise:
            return logits
        seed = abs(hash(tuple(float(v[0]) for v in row)))
        return logits + self.noise * np.random.default_rng(seed).standard_normal(VOCABULARY, np.float32)


def _spec(name: str, *axes: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", axes=axes)


def fake_bundle(folder: Path, *, slots: int | str = "points", max_length: int = 2048) -> Bundle:
    """A bundle whose graphs are described rightly and whose graph files are empty shells."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {
        "shell": b"shell",
        "decoder": bytes(1000),
        "tokenizer.json": byte_tokenizer(),
    }.items():
        (folder / name).write_bytes(content)
    shell, weights = (file_ref(folder / "shell"),), (file_ref(folder / "decoder"),)
    features = (
        _spec("image_embed", 1, C, E, E),
        _spec("high_res_0", 1, C // 8, 4 * E, 4 * E),
        _spec("high_res_1", 1, C // 4, 2 * E, 2 * E),
    )
    region = (_spec("region_embed", 1, C, E, E), _spec("mask_tokens", 1, 2, C))
    prompt = (
        _spec("point_coords", 1, slots, 2),
        _spec("point_labels", 1, slots),
        _spec("mask_prompt", 1, 1, 4 * E, 4 * E),
        _spec("has_mask", 1),
        _spec("no_memory", 1),
    )
    answers = (
        _spec("masks", 1, 1, 4 * E, 4 * E),
        _spec("iou", 1, 1),
        _spec("object_score", 1, 1),
        _spec("object_pointer", 1, C),
        *region,
    )
    graphs = (
        Graph(name="image_encoder", files=shell, inputs=(_spec("image", 1, 3, S, S),), outputs=features),
        Graph(name="mask_decoder", files=shell, inputs=(*features, *prompt), outputs=answers),
        Graph(name="perceiver", files=shell, inputs=region, outputs=(_spec("region_tokens", 1, R, HIDDEN),)),
        Graph(
            name="decoder",
            files=weights,
            inputs=(_spec("embeds", "rows", "length", HIDDEN),),
            outputs=(_spec("logits", "rows", VOCABULARY),),
        ),
    )
    nothing = FileRef(path="nothing", bytes=0, sha256="0" * 64)
    language = msgspec.structs.replace(
        NANO.language, vocab_size=VOCABULARY, hidden_size=HIDDEN, max_length=max_length
    )
    manifest = Manifest(
        schema=1,
        variant=msgspec.structs.replace(NANO, language=language),
        weights=Weights(kind="random", source="random:nano"),
        target="cpu",
        runtime="onnxruntime",
        scheme="float32",
        graphs=graphs,
        embedding=Embedding(file=nothing, dtype="float32", shape=(VOCABULARY, HIDDEN)),
        tokenizer=file_ref(folder / "tokenizer.json"),
        prompts=PAM_PROMPTS,
        stop_ids=(STOP, 0),
        tools={},
        golden=nothing,
        verification=None,
    )
    return Bundle(folder, manifest)


def fake_pam(
    folder: Path,
    knows: Knows = lambda region, after: spelled("ok"),
    *,
    slots: int | str = "points",
    max_length: int = 2048,
    noise: float = 0.0,
    images: int = 8,
    prefixes: int = 4,
) -> tuple[Pam, Log]:
    """A Pam over fakes, and the log of what it asked of them."""
    log = Log()
    bundle = fake_bundle(folder, slots=slots, max_length=max_length)

    def open_decoder() -> FakeDecoder:
        log.opened += 1
        return FakeDecoder(knows, log, max_length=max_length, noise=noise)

    engine = Engine(session=lambda graph: FakeSession(graph, log), decoder=open_decoder)
    return Pam(bundle, engine, images=images, prefixes=prefixes), log
