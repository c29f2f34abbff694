"""Graphs are opened once, whoever asks and from whichever thread, and a fault reaches who asks."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest
from fakes import FakeSession, Log, fake_bundle, fake_pam
from PIL import Image

from pam_edge.bundle.builtin import BUNDLE
from pam_edge.core.errors import IntegrityError, UsageError
from pam_edge.image.preprocess import Prompt
from pam_edge.pipeline.pam import Pam, load
from pam_edge.runtimes.common.open_graphs import Engine, Graphs
from pam_edge.runtimes.common.session import Decoder, Session


class Slow:
    """An engine whose graphs open when the test lets them."""

    def __init__(self) -> None:
        self.go, self.begun, self.opened = threading.Event(), threading.Event(), list[str]()
        self.faults: list[Exception] = []

    def open(self, graph: str) -> object:
        self.opened.append(graph)
        self.begun.set()
        assert self.go.wait(10)
        if self.faults:
            raise self.faults.pop()
        return graph

    def graphs(self, *, concurrent: bool = True) -> Graphs:
        return Graphs(
            Engine(
                lambda graph: cast(Session, self.open(graph)),
                lambda: cast(Decoder, self.open("decoder")),
                concurrent=concurrent,
            )
        )


def test_threads_that_ask_for_one_graph_open_it_once() -> None:
    slow = Slow()
    graphs = slow.graphs()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(graphs.session, "perceiver") for _ in range(4)]
        assert slow.begun.wait(10)
        slow.go.set()
        assert {str(each.result()) for each in asked} == {"perceiver"}
    assert slow.opened == ["perceiver"]


def test_ahead_of_need_the_caller_goes_on() -> None:
    slow = Slow()
    graphs = slow.graphs()
    graphs.begin("mask_decoder", "decoder")
    assert slow.begun.wait(10)
    assert not graphs.is_open("mask_decoder")
    slow.go.set()
    assert cast(str, graphs.decoder()) == "decoder"
    assert cast(str, graphs.session("mask_decoder")) == "mask_decoder"
    assert sorted(slow.opened) == ["decoder", "mask_decoder"]


def test_an_engine_that_may_not_opens_nothing_ahead() -> None:
    slow = Slow()
    slow.go.set()
    slow.graphs(concurrent=False).begin("mask_decoder")
    time.sleep(0.05)
    assert not slow.opened


def test_a_fault_reaches_who_asks_and_is_no_lasting_one() -> None:
    slow = Slow()
    slow.faults.append(IntegrityError("x.onnx is damaged"))
    graphs = slow.graphs()
    graphs.begin("perceiver")
    assert slow.begun.wait(10)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(graphs.session, "perceiver")
        time.sleep(0.05)  # it waits for what the background does
        slow.go.set()
        with pytest.raises(IntegrityError, match=r"x\.onnx"):
            asked.result()
    assert cast(str, graphs.session("perceiver")) == "perceiver"


def test_close_waits_for_what_is_opening_and_nothing_opens_after() -> None:
    slow = Slow()
    graphs = slow.graphs()
    graphs.begin("perceiver", "decoder")
    assert slow.begun.wait(10)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(graphs.close)
        time.sleep(0.05)
        assert not closing.done()
        slow.go.set()
        closing.result(timeout=10)
    for ask in (graphs.decoder, lambda: graphs.session("perceiver")):
        with pytest.raises(UsageError, match="closed"):
            cast("Callable[[], object]", ask)()
    assert "decoder" not in slow.opened


def test_the_mask_decoder_opens_beside_the_encoder(tmp_path: Path) -> None:
    log, both = Log(), threading.Barrier(2)

    def session(graph: str) -> Session:
        if graph in ("image_encoder", "mask_decoder"):
            both.wait(10)  # neither is open before the other was begun
        return FakeSession(graph, log)

    def decoder() -> Decoder:
        raise AssertionError("a click alone needs no decoder")

    pam = Pam(fake_bundle(tmp_path), Engine(session, decoder, concurrent=True))
    pam.segment(pam.look(Image.new("RGB", (64, 48))), Prompt(points=((10, 10, 1),)))


def test_a_click_alone_opens_no_decoder(tmp_path: Path) -> None:
    pam, log = fake_pam(tmp_path)
    pam.segment(pam.look(Image.new("RGB", (64, 48))), Prompt(points=((10, 10, 1),)))
    assert log.opened == 0


def test_a_damaged_graph_is_named_where_it_was_opened_ahead(tmp_path: Path) -> None:
    folder = shutil.copytree(BUNDLE, tmp_path / "nano-copy")
    (folder / "mask_decoder.onnx").write_bytes(bytes((folder / "mask_decoder.onnx").stat().st_size))
    pam = load(folder, threads=1, check=False)
    with pytest.raises(IntegrityError, match=r"mask_decoder\.onnx"):
        pam.ask(Image.new("RGB", (64, 48)), Prompt(points=((10, 10, 1),)), ["brief"])
