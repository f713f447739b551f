"""A destination's delivery in this process: a worker for each partition that it is assigned."""

import asyncio
import logging

from gateway.deliver.measure import Standings
from gateway.deliver.pace import Pace
from gateway.deliver.settings import DestinationSettings
from gateway.deliver.worker import House, Parts, work
from gateway.model.retry import backoff_seconds
from gateway.ports import (
    Assignment,
    AssignmentLostError,
    BufferUnavailableError,
    Destination,
)

LOG = logging.getLogger("gateway.deliver")


class Deliver:
    """The use case, for one destination."""

    def __init__(
        self,
        name: str,
        destination: Destination,
        settings: DestinationSettings,
        house: House,
    ) -> None:
        self._name = name
        self._destination = destination
        self._parts = Parts(
            name,
            destination,
            settings,
            house,
            Pace(settings, house.buffer.partitions),
            Standings(name, house.retention_seconds),
        )

    async def run(self, ending: asyncio.Event) -> None:
        """Deliver until `ending`; then finish what is in flight, and keep the positions."""
        await self._destination.start()
        try:
            await self._parts.house.buffer.consume(self._name, self._own, ending)
        finally:
            await self._destination.stop()

    async def _own(self, assignment: Assignment) -> None:
        self._parts.pace.joined(1)
        try:
            await self._work(assignment)
        except AssignmentLostError:
            LOG.warning("%s: partition %d was taken over", self._name, assignment.partition)
        finally:
            self._parts.pace.joined(-1)

    async def _work(self, assignment: Assignment) -> None:
        failures = 0
        while not assignment.ending.is_set():
            try:
                await work(self._parts, assignment)
            except BufferUnavailableError as error:
                failures += 1
                wait = min(10.0, backoff_seconds(failures, 1.0))
                LOG.warning("%s: the buffer is away, trying again: %s", self._name, error)
                try:
                    async with asyncio.timeout(wait):
                        await assignment.ending.wait()
                except TimeoutError:
                    continue
