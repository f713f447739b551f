"""Replay of a lead that Dub refused: its stand-in's workspace, the real deliver, virtual time."""

import asyncio
from typing import Any

import orjson

from gateway.adapters.destinations.dub.destination import DubDestination
from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.adapters.memory import MemoryBuffer
from gateway.deliver.consume import Deliver
from gateway.deliver.worker import House
from gateway.model.attempt import Answered
from gateway.model.dead import DeadLetter
from gateway.model.envelope import encode
from gateway.model.journal import Answer, Settled, decode
from gateway.model.outcome import Outcome, Reason
from gateway.model.window import DedupSettings
from gateway.ports import Draft, Log
from gateway.replay import Checked, Replay
from gateway.sandbox.dub_models import Lead
from gateway.sandbox.dub_workspace import Declined, DubSandbox, Workspace
from tests.unit.deliver.letters import ReadLetters
from tests.unit.deliver.world import lead
from tests.virtual import VirtualClock, run

CLICK = "AAAAAAAAAAAAAAAA"
WEEK = 7 * 86_400.0


class Leads:
    """An HttpClient to the stand-in's leads."""

    def __init__(self, clock: VirtualClock) -> None:
        self.workspace = Workspace(DubSandbox(now_ms=clock.now_ms))

    async def exchange(self, _: str, __: str, ___: Any, body: bytes, ____: float) -> Answered:
        try:
            said = self.workspace.track_lead(Lead.model_validate_json(body))
        except Declined as declined:
            error = {"code": declined.code, "message": declined.message}
            return Answered(404, None, orjson.dumps({"error": error}))
        return Answered(200, None, orjson.dumps(said))


async def never(_: DeadLetter) -> Checked:
    raise AssertionError("nothing was rejected at ingest")


async def settled(buffer: MemoryBuffer) -> list[Settled]:
    """Return every outcome so far."""
    records = await buffer.read(Log.OUTCOMES, 0, 0, 10_000)
    entries = [decode(each.value) for each in records]
    return [one for each in entries if isinstance(each, Answer) for one in each.settled]


async def for_a_minute(deliver: Deliver) -> None:
    ending = asyncio.Event()
    running = asyncio.ensure_future(deliver.run(ending))
    await asyncio.sleep(60)
    ending.set()
    await running


def test_a_lead_refused_for_its_click_is_no_duplicate_when_replayed_and_counts_a_week_later() -> (
    None
):
    """Dub notes a lead before it looks up the click: replayed too soon it records nothing."""

    async def main() -> None:
        clock = VirtualClock()
        dub, buffer = Leads(clock), MemoryBuffer(clock, 1)
        event = lead("l", "u1")
        event.event["clickId"] = CLICK
        await buffer.publish(Log.EVENTS, [Draft(0, encode(event))])
        settings = DubSettings.model_validate({"kind": "dub", "api_key": "dub_k"})
        house = House(buffer, {"shop": frozenset({"dub"})}, clock, DedupSettings(), 30 * WEEK)
        deliver = Deliver("dub", DubDestination(settings, dub, clock), settings, house)
        letters = ReadLetters(buffer)
        replay = Replay(letters, buffer, clock, {"shop": {"dub": frozenset({"lead"})}}, never)
        await for_a_minute(deliver)
        dub.workspace.click("summer", CLICK)  # it was late
        for wait in (0, WEEK):
            await asyncio.sleep(wait)
            await letters.catch_up(Log.DEAD)
            await replay.replay(letters.open())
            await for_a_minute(deliver)
        first, second, third = await settled(buffer)
        assert (first.outcome, first.reason) == (Outcome.DEAD, Reason.UNKNOWN_CLICK)
        assert "replayed after 7 days it may count" in first.detail
        assert (second.outcome, second.reason) == (Outcome.DEAD, Reason.UNCONFIRMED)
        assert third.outcome is Outcome.DELIVERED
        assert [each.external_id for each in dub.workspace.leads] == ["u1"]

    run(main)
