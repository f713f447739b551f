"""How a process is asked to end, and what is done when it does not."""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine, Mapping
from typing import Any, NoReturn

_log = logging.getLogger("gateway")


class Stop:
    """Set once, by SIGTERM, by SIGINT or by `ask`. A second signal ends the process at once."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._wants_drain = False

    @property
    def wants_drain(self) -> bool:
        """Whether traffic may go on coming for a while: after SIGTERM, not after Ctrl-C."""
        return self._wants_drain

    def listen(self) -> None:
        """Take the process's signals, in the running event loop."""
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._came, each)

    def ask(self, *, drain: bool = False) -> None:
        """Ask for the end."""
        self._wants_drain = drain
        self._asked.set()

    async def asked(self) -> None:
        """Wait for it."""
        await self._asked.wait()

    def _came(self, which: signal.Signals) -> None:
        if self._asked.is_set():
            _log.warning("a second signal (%s): leaving at once", which.name)
            leave(1)
        _log.info("%s: stopping", which.name)
        self.ask(drain=which is signal.SIGTERM)


def leave(status: int) -> NoReturn:
    """End the process without waiting for anything: what was acknowledged is durable."""
    logging.shutdown()
    os._exit(status)


async def end_all(
    work: Mapping[str, Coroutine[Any, Any, None]], deadline: float
) -> tuple[str, ...]:
    """Run all of it side by side until `deadline` (the loop's clock); return what did not end.

    What fails is logged, and counts as ended.
    """
    tasks = {asyncio.create_task(each): name for name, each in work.items()}
    if not tasks:
        return ()
    left = max(0.0, deadline - asyncio.get_running_loop().time())
    done, pending = await asyncio.wait(tasks, timeout=left)
    for task in done:
        if not task.cancelled() and (error := task.exception()):
            _log.error("%s did not end well", tasks[task], exc_info=error)
    return tuple(tasks[task] for task in pending)
