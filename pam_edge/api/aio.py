"""The API for asyncio: each call runs in a thread, so that the event loop is not blocked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast

from pam_edge.api.model import Model, load
from pam_edge.api.result import Result
from pam_edge.api.stream import Stream
from pam_edge.bundle.bundle import Bundle
from pam_edge.core.errors import UsageError
from pam_edge.pipeline.results import Piece, Region
from pam_edge.video.stream import Event

P = ParamSpec("P")
T = TypeVar("T")
Kind = TypeVar("Kind")
Item = TypeVar("Item", covariant=True)


class _Closable(Protocol[Item]):
    def __next__(self) -> Item: ...

    def close(self) -> None: ...


class AsyncPieces(AsyncIterator[Item], Generic[Item]):
    """An iterator whose items are computed in a thread, one at a time, in order; created at its first use."""

    def __init__(self, make: Callable[[], _Closable[Item]]) -> None:
        self._make = make
        self._made: _Closable[Item] | None = None
        self._end = object()

    async def __anext__(self) -> Item:
        item = await asyncio.to_thread(self._step)
        if item is self._end:
            raise StopAsyncIteration
        return cast("Item", item)

    async def __aenter__(self) -> AsyncPieces[Item]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop computing; an item in progress is finished first."""
        if self._made is not None:
            await asyncio.to_thread(self._made.close)

    def _started(self) -> _Closable[Item]:
        if self._made is None:
            self._made = self._make()
        return self._made

    def _step(self) -> object:
        return next(cast("Iterator[object]", self._started()), self._end)


class AsyncStream(AsyncPieces[Piece]):
    """Asynchronous iterator of pieces of text; see `Stream`."""

    _made: Stream | None

    async def region(self) -> Region:
        """The `Region` with the mask, known before any text."""
        return cast("Stream", await asyncio.to_thread(self._started)).region

    @property
    def result(self) -> Result:
        """The `Result` with the answers finished so far.

        Raises:
            UsageError: nothing was computed yet.
        """
        if self._made is None:
            raise UsageError("nothing was computed yet: take a piece, or `await stream.region()`, first")
        return self._made.result


def _in_thread(
    method: Callable[Concatenate[Model, P], T],
) -> Callable[Concatenate[AsyncModel, P], Coroutine[Any, Any, T]]:
    async def call(self: AsyncModel, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, self.model, *args, **kwargs)

    call.__doc__ = method.__doc__
    return call


def _in_steps(
    method: Callable[Concatenate[Model, P], _Closable[Item]], kind: Callable[[Callable[[], Any]], Kind]
) -> Callable[Concatenate[AsyncModel, P], Kind]:
    def call(self: AsyncModel, /, *args: P.args, **kwargs: P.kwargs) -> Kind:
        return kind(lambda: method(self.model, *args, **kwargs))

    call.__doc__ = method.__doc__
    return call


class AsyncModel:
    """A `Model` for asyncio: calls run in threads one after the other, and the event loop is not blocked.

    If a call is cancelled, its computation runs to its end in its thread and the result is dropped. A stream
    stops after the piece in progress.

    Attributes:
        model: the `Model`.

    Example:
        >>> async with pam_edge.AsyncModel("nano") as pam:
        ...     r = await pam("scene.png", point=(62, 40))
        ...     async for piece in pam.stream("scene.png", point=(62, 40), task="detailed"):
        ...         print(piece.text)
    """

    def __init__(self, model: Model | Bundle | str | os.PathLike[str]) -> None:
        """Open a model.

        Args:
            model: a `Model`, or the first argument of `pam_edge.load`.
        """
        self.model = model if isinstance(model, Model) else load(model)

    __call__ = _in_thread(Model.__call__)
    look = _in_thread(Model.look)
    segment = _in_thread(Model.segment)
    ask = _in_thread(Model.ask)

    stream = _in_steps(Model.stream, AsyncStream)  # for `async for`, as is
    track = _in_steps(Model.track, AsyncPieces[Event])

    async def aclose(self) -> None:
        """Close the model."""
        await asyncio.to_thread(self.model.close)

    async def __aenter__(self) -> AsyncModel:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"Async{self.model!r}"
