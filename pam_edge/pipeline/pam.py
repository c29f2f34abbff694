"""One look, many answers: the whole job from a picture and a click to a mask and streamed text.

`look` runs the image encoder once per picture, `segment` the mask decoder once per click, `describe` the
perceiver and the visual prefix once per region, whatever the number of tasks. A mask never waits for text.
Knows graphs by their names in the contract; no engine, no device, no files but the bundle's. A `Pam` may be
used from several threads: one at a time computes, and streams of text take turns token by token.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pam_edge.bundle.bundle import Bundle
from pam_edge.bundle.graph_io import PICTURES, check_borders, slots
from pam_edge.core.errors import IntegrityError, UsageError
from pam_edge.core.lru_cache import Lru
from pam_edge.core.timing import ms_since
from pam_edge.image.masks import binarize, bounds
from pam_edge.image.preprocess import (
    ImageSource,
    Prompt,
    check_prompt,
    encode_prompt,
    load_image,
    normalized,
    resized,
)
from pam_edge.pipeline.generation import Description, Limits, Prefix, bundle_step_bytes
from pam_edge.pipeline.results import Answer, Region, Seen
from pam_edge.runtimes.common.open_graphs import DECODER, Engine, Graphs
from pam_edge.runtimes.common.registry import open_decoder, open_session, opens_concurrently
from pam_edge.runtimes.common.session import Decoder
from pam_edge.text.decoding import Sampling
from pam_edge.text.tokenization import Lang, Task, Texts

Array = npt.NDArray[Any]

IMAGES = 8  # encoded pictures kept: 16 MB each at PAM's size
MAX_TOKENIZER_BYTES = 64 << 20  # PAM's has 11 MB
PREFIXES = 4  # prefilled regions kept: about 60 MB each for PAM-1.5B in float32

# Bytes of a graph's file up to which it opens beside the image encoder: of a larger one, the memory that both
# take counts for more than the time.
_SMALL = 4 << 20


def load(bundle: str | Path | Bundle, *, threads: int = 0, check: bool = True) -> Pam:
    """Open a bundle for use in its own runtime; graphs are opened when they are first needed.

    `threads` 0 lets the engine choose; `check` compares every file's sha256 first. Raises like `Bundle.open`.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle, check=check)
    return Pam(opened, engine_of(opened, threads=threads))


def engine_of(bundle: Bundle, *, threads: int = 0) -> Engine:
    """The bundle's own runtime. Nothing is opened yet."""
    return Engine(
        partial(open_session, bundle, threads=threads),
        partial(open_decoder, bundle, threads=threads),
        concurrent=opens_concurrently(bundle.manifest.runtime),
    )


class Pam:
    """A bundle ready to look, segment and describe. Safe from several threads: `lock` is held while anything
    is computed.
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, *, images: int = IMAGES, prefixes: int = PREFIXES
    ) -> None:
        """`images` and `prefixes` bound the two caches. Raises IntegrityError where the bundle lacks what
        PAM needs.
        """
        self.bundle = bundle
        self.lock = threading.RLock()
        manifest = bundle.manifest
        check_borders(bundle, PICTURES)
        # For points of a prompt; None: any number.
        self.slots = slots(bundle.graph("mask_decoder"), "point_coords")
        if manifest.tokenizer.bytes > MAX_TOKENIZER_BYTES:
            limit = MAX_TOKENIZER_BYTES >> 20
            raise IntegrityError(f"{manifest.tokenizer.path} is over {limit} MiB; refusing to read it")
        self._texts = Texts(bundle.path(manifest.tokenizer).read_bytes(), manifest.prompts)
        self.limits = Limits(
            stop_ids=frozenset(manifest.stop_ids),
            max_length=manifest.variant.language.max_length,
            step_bytes=bundle_step_bytes(manifest),
        )
        self._graphs = Graphs(engine)
        self._images: Lru[dict[str, Array]] = Lru(images)
        self._prefixes: Lru[Decoder] = Lru(prefixes)
        self._region_tokens = 0

    @property
    def texts(self) -> Texts:
        """The bundle's tokenizer and prompts."""
        return self._texts

    @property
    def cache(self) -> dict[str, int]:
        """What was computed and what was not, since loading."""
        return {
            "image_hits": self._images.hits,
            "image_misses": self._images.misses,
            "prefix_hits": self._prefixes.hits,
            "prefix_misses": self._prefixes.misses,
            "region_tokens_computed": self._region_tokens,
        }

    def check_prompt(self, prompt: Prompt, size: tuple[int, int]) -> None:
        """Find out before the slow `look` whether `segment` will take a prompt on a picture of `size` (h, w).

        Raises UsageError as `segment` would.
        """
        check_prompt(prompt, size, slots=self.slots)

    def look(self, image: ImageSource) -> Seen:
        """Encode a picture, or find it encoded already (by content). Raises like `preprocess.load_image`."""
        clock = time.perf_counter()
        picture = load_image(image)
        square = resized(picture, self.bundle.manifest.variant.vision.image_size)
        key = hashlib.blake2b(square.tobytes(), digest_size=16).hexdigest()
        timing = {"preprocess": ms_since(clock), "load": 0.0, "encode": 0.0}

        def encode() -> dict[str, Array]:
            if self.bundle.graph("mask_decoder").files[0].bytes <= _SMALL:
                self.open_ahead("mask_decoder")  # beside the encoder's opening, which takes one core
            timing["load"] = self.open_graph("image_encoder")
            clock = time.perf_counter()
            features = self.run_graph("image_encoder", {"image": normalized(square)})
            timing["encode"] = ms_since(clock)
            return {name: features[name] for name in PICTURES["image_encoder"][1]}

        with self.lock:
            features = self._images.get(key, encode)
        width, height = picture.size
        return Seen(size=(height, width), key=key, features=features, timing_ms=timing)

    def segment(self, seen: Seen, prompt: Prompt, *, refine: Region | None = None) -> Region:
        """The region a prompt selects. `refine` starts from an earlier region's mask on the same picture:
        give the whole prompt so far, `segment(seen, region.prompt.also((x, y, 0)), refine=region)`. What
        was made of that prompt's mask, if it had one, takes its place.

        Raises UsageError where the prompt does not fit the picture, or `refine` the picture or the prompt.
        """
        if refine is not None:
            if (refine.picture, refine.size) != (seen.key, seen.size):
                raise UsageError("the region to refine is of another picture: segment this one first")
            own = refine.prompt.mask
            if prompt.mask is not None and (own is None or not np.array_equal(prompt.mask, own)):
                raise UsageError("give a mask or an earlier region to refine, not both")
        load_ms = self.open_graph("mask_decoder")
        clock = time.perf_counter()
        feeds = encode_prompt(
            prompt,
            size=seen.size,
            image_size=self.bundle.manifest.variant.vision.image_size,
            slots=self.slots,
            earlier=None if refine is None else refine.low_res,
        )
        digest = hashlib.blake2b(f"{seen.key} {seen.size}".encode(), digest_size=16)
        for name in sorted(feeds):
            digest.update(feeds[name].tobytes())
        out = self.run_graph("mask_decoder", {**seen.features, **feeds, "no_memory": np.ones(1, np.float32)})
        low_res = out["masks"][0, 0]
        mask = binarize(low_res, seen.size)
        return Region(
            mask=mask,
            low_res=low_res,
            score=float(out["iou"].reshape(())),
            object_score=float(out["object_score"].reshape(())),
            box=bounds(mask),
            prompt=prompt,
            key=digest.hexdigest(),
            picture=seen.key,
            region_embed=out["region_embed"],
            mask_tokens=out["mask_tokens"],
            timing_ms={**seen.timing_ms, "load": seen.timing_ms["load"] + load_ms, "mask": ms_since(clock)},
        )

    def describe(
        self,
        region: Region,
        tasks: Sequence[Task],
        *,
        lang: Lang = "en",
        sampling: Sampling | None = None,
        max_tokens: int = 512,
    ) -> Description:
        """Stream the answers to `tasks` (names of the bundle's tasks, or `Question`s), greedy by default.

        Nothing is computed before the first piece is asked for. Raises UsageError at once for an unknown
        task; while streaming, WontFitError where region and question leave no room for an answer.
        """
        return Description(
            partial(self._prefix, region),
            self._texts,
            tasks=tasks,
            limits=self.limits,
            lang=lang,
            sampling=sampling or Sampling(),
            max_tokens=max_tokens,
            lock=self.lock,
        )

    def ask(
        self,
        image: ImageSource,
        prompt: Prompt,
        tasks: Sequence[Task],
        *,
        lang: Lang = "en",
        max_tokens: int = 512,
    ) -> tuple[Region, tuple[Answer, ...]]:
        """The whole job in one call: the region and its finished answers, in the order of the tasks."""
        picture = load_image(image)
        self.check_prompt(prompt, (picture.height, picture.width))
        seen = self.look(picture)
        self.open_ahead("perceiver", DECODER)  # no sooner: encoding takes every core and much memory
        region = self.segment(seen, prompt)
        description = self.describe(region, tasks, lang=lang, max_tokens=max_tokens)
        for _ in description:
            pass
        return region, description.answers

    def region_tokens(self, region: Region) -> npt.NDArray[np.float32]:
        """What the language model is shown of a region: [R, hidden]."""
        self._region_tokens += 1
        feeds = {"region_embed": region.region_embed, "mask_tokens": region.mask_tokens}
        tokens: npt.NDArray[np.float32] = self.run_graph("perceiver", feeds)["region_tokens"][0]
        return tokens

    def _prefix(self, region: Region) -> Prefix:
        timing: dict[str, float] = {"load": 0.0, "perceiver": 0.0, "prefill": 0.0}
        computed = 0

        def prefill() -> Decoder:
            nonlocal computed
            timing["load"] = self.open_graph("perceiver")
            clock = time.perf_counter()
            tokens = self.region_tokens(region)
            timing["perceiver"] = ms_since(clock)
            timing["load"] += self.open_decoder()
            clock = time.perf_counter()
            decoder = self.fresh_decoder()
            embeds = np.concatenate([decoder.embed(self._texts.ids_before), tokens])
            decoder.prefill([embeds])
            computed = len(embeds)
            timing["prefill"] = ms_since(clock)
            return decoder

        return Prefix(self._prefixes.get(region.key, prefill), computed, timing)

    def open_ahead(self, *graphs: str) -> None:
        """Begin to open graphs in a background thread, in the order given, where they are not open yet: those
        that the next calls need. A fault in one is raised by the call that needs it.
        """
        self._graphs.begin(*graphs)

    def open_graph(self, graph: str) -> float:
        """Open a graph where it is not open yet; the milliseconds it took, or that were left of it."""
        if self._graphs.is_open(graph):
            return 0.0
        clock = time.perf_counter()
        self._graphs.session(graph)
        return ms_since(clock)

    def open_decoder(self) -> float:
        """Open the decoder where it is not open yet; the milliseconds it took, or that were left of it."""
        if self._graphs.is_open(DECODER):
            return 0.0
        clock = time.perf_counter()
        self._graphs.decoder()
        return ms_since(clock)

    def fresh_decoder(self) -> Decoder:
        """A decoder of one empty row."""
        with self.lock:
            return self._graphs.decoder().branch(1)

    def run_graph(self, graph: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run a graph with feeds in the types its bundle names; outputs come back as float32."""
        session = self._graphs.session(graph)
        specs = self.bundle.graph(graph).inputs
        typed = {spec.name: np.ascontiguousarray(feeds[spec.name], dtype=spec.dtype) for spec in specs}
        with self.lock:
            outputs = session.run(typed)
        return {name: np.asarray(value, np.float32) for name, value in outputs.items()}
