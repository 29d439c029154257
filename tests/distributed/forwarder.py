"""A way to the local Braze for each worker: whoever comes by it is known by the port, which the Host header names."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

LOOPBACK = "127.0.0.1"


class Forwarder:
    """Hands connections on to a port of this machine; a context manager.

    :param target: the port they go to.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="forwarder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self) -> int:
        """Open another way, and return its port."""
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._forward, LOOPBACK, 0), self._loop
        ).result()
        return int(server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        ours = asyncio.current_task()
        rest = [task for task in asyncio.all_tasks() if task is not ours]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever is killed breaks connections; Braze then sees this one end.
        with suppress(OSError):
            braze_reader, braze_writer = await asyncio.open_connection(LOOPBACK, self._target)
            await asyncio.gather(_pump(reader, braze_writer), _pump(braze_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
