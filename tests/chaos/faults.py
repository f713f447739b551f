"""What is done to a gateway: each fault strikes, lasts a while, and is mended by itself."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from gateway.sandbox.control import CONTROL
from gateway.sandbox.faults import (
    AnswerStatus,
    CloseMidAnswer,
    Delay,
    Fault,
    HugeAnswer,
    InvalidJson,
    Reset,
    RetryAfter,
    RetryAfterForm,
    SlowDrip,
)
from tests.chaos.replay import replay_refused
from tests.chaos.world import SESSION_SECONDS, TIMEOUT_SECONDS, World
from tests.gateways import eventually

Strike = Callable[[World], Awaitable[str]]
"""Does it, waits until it is over, and says what it was."""

LETTERS_SECONDS = 60
_BURIED = 'gateway_dead_letters_total{{destination="{}",reason="refused"}}'
LONGEST_JUMP_SECONDS = 3 * 3600


async def process_killed(world: World) -> str:
    place = world.rng.choice(world.places)
    await world.gateway.kill(place)
    await asyncio.sleep(world.rng.uniform(0, 1))
    await world.gateway.start(place)
    return f"{world.gateway.commands[place]} {place} killed"


async def process_ended(world: World) -> str:
    place = world.rng.choice(world.places)
    status = await world.gateway.stop(place)
    assert status == 0, f"exit status {status}:\n{world.gateway.log()[-3000:]}"
    await world.gateway.start(place)
    return f"{world.gateway.commands[place]} {place} ended and started"


async def process_frozen(world: World) -> str:
    """Often past its session's time-out, so that another takes over meanwhile."""
    place = world.rng.choice(world.places)
    seconds = world.rng.uniform(0.2, 2.5 * SESSION_SECONDS)
    world.gateway.send(signal.SIGSTOP, place)
    await asyncio.sleep(seconds)
    world.gateway.send(signal.SIGCONT, place)
    return f"{world.gateway.commands[place]} {place} frozen for {seconds:.1f} s"


async def replica_comes_and_goes(world: World) -> str:
    spare = len(world.places)
    await world.gateway.start(spare)
    await asyncio.sleep(world.rng.uniform(0, 2))
    end = world.rng.choice((world.gateway.stop, world.gateway.kill))
    await end(spare)
    return f"a third deliver came, and was asked to {end.__name__}"


async def broker_killed(world: World) -> str:
    assert world.broker is not None
    await asyncio.to_thread(world.broker.kill)
    await asyncio.to_thread(world.broker.start)
    return "broker killed"


async def broker_frozen(world: World) -> str:
    assert world.broker is not None
    seconds = world.rng.uniform(0.5, 8)
    await asyncio.to_thread(world.broker.pause)
    await asyncio.sleep(seconds)
    world.broker.resume()
    return f"broker frozen for {seconds:.1f} s"


async def broker_away(world: World) -> str:
    assert world.broker is not None
    seconds = world.rng.uniform(1, 10)
    await asyncio.to_thread(world.broker.stop)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.broker.start)
    return f"broker away for {seconds:.1f} s"


async def disk_full(world: World) -> str:
    assert world.disk is not None
    filler = world.disk / "filler"
    seconds = world.rng.uniform(0.5, 4)
    try:
        await asyncio.to_thread(_fill, filler)
        await asyncio.sleep(seconds)
    finally:
        filler.unlink()
    return f"disk full for {seconds:.1f} s"


def _fill(path: Path) -> None:
    for size in (1 << 20, 1 << 12):  # in pieces, then what is left of it
        with path.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(size)):
                pass


async def clock_jumps(world: World) -> str:
    assert world.clock is not None
    seconds = world.rng.randint(-LONGEST_JUMP_SECONDS, LONGEST_JUMP_SECONDS)
    world.clock.write_text(f"{seconds:+d}")
    await asyncio.sleep(world.rng.uniform(1, 4))
    return f"clock wrong by {seconds:+d} s"


async def destination_at_fault(world: World) -> str:
    return await _at_fault(world, _fault(world), world.rng.uniform(0.5, 5))


async def destination_refuses(world: World) -> str:
    """All or some of what is sent, for good: the rest of a batch must go through."""
    status, every = world.rng.choice((400, 422)), world.rng.choice((1, 2))
    return await _at_fault(world, AnswerStatus(status=status, every=every), 3.0)


async def refused_from_the_start(world: World) -> str:
    """Refuse everything until there are dead letters of it, while all is still up."""
    boards = [app[CONTROL].faults for app in (world.there.voyado, world.there.dub)]
    for board in boards:
        board.add(AnswerStatus(status=400))

    async def buried() -> bool:
        found = await world.gateway.metrics()
        return all(found.get(_BURIED.format(name), 0) > 0 for name in ("voyado", "dub"))

    await eventually(buried, LETTERS_SECONDS, "letters of what was refused")
    for board in boards:
        board.clear()
    return "Voyado and Dub: status 400 until they had letters"


async def _at_fault(world: World, fault: Fault, seconds: float) -> str:
    name, app = world.rng.choice((("Voyado", world.there.voyado), ("Dub", world.there.dub)))
    board = app[CONTROL].faults
    board.add(fault)
    await asyncio.sleep(seconds)
    others = [each for each in board if each is not fault]
    board.clear()
    for each in others:
        board.add(each)
    said = f"{fault.kind} {fault.status}" if isinstance(fault, AnswerStatus) else fault.kind
    return f"{name}: {said} for {seconds:.1f} s"


def _fault(world: World) -> Fault:
    """Return one that leaves every event deliverable in the end."""
    every = world.rng.choice((1, 2, 5))
    form = world.rng.choice(list(RetryAfterForm))
    wait = RetryAfter(form=form, seconds=world.rng.randint(0, 3))
    status = world.rng.choice((500, 502, 503))
    return world.rng.choice(
        (
            AnswerStatus(status=status, every=every),
            AnswerStatus(status=429, retry_after=wait, every=every),
            AnswerStatus(status=504, carried_out=world.rng.random() < 0.5, every=every),
            Delay(seconds=3 * TIMEOUT_SECONDS, every=every),
            Delay(seconds=TIMEOUT_SECONDS / 4, every=every),
            Reset(carried_out=world.rng.random() < 0.5, every=every),
            CloseMidAnswer(every=every),
            SlowDrip(seconds_between=0.2, size_bytes=64, every=every),
            HugeAnswer(size_bytes=8 << 20, every=every),
            InvalidJson(every=every),
        )
    )


async def letters_replayed(world: World) -> str:
    """By one command, by two at once, or by one that is killed while it works."""
    number, seconds = world.rng.choice(((1, 20.0), (2, 20.0), (1, world.rng.uniform(1, 3))))
    told = await asyncio.gather(*(replay_refused(world, seconds) for _ in range(number)))
    return f"dead letters replayed: {'; at the same time: '.join(told)}"


def possible(world: World) -> list[Strike]:
    """Return what can be done to this world's processes and to what they stand on."""
    found: list[Strike] = [process_killed, process_killed, process_ended, process_frozen]
    if world.broker is not None:
        found += [replica_comes_and_goes, broker_killed, broker_frozen, broker_away]
    if world.disk is not None:
        found.append(disk_full)
    if world.clock is not None:
        found.append(clock_jumps)
    return found
