"""A listing that changes while it is read is read whole, each row once."""

from collections.abc import Callable
from random import Random

import pytest

from gateway.adapters.postgrid.answers import Page, Thing
from gateway.adapters.postgrid.walk import OVERLAP, walk

LIMIT = 40
Rows = list[str]
Drift = Callable[[Rows, Random], None]


class Server:
    """A listing paged by offset; it drifts after each of the first so many pages."""

    def __init__(self, count: int, drift: Drift, times: int, random: Random) -> None:
        self.rows = [f"row_{n}" for n in range(count)]
        self.pages = 0
        self._drift = drift
        self._times = times
        self._random = random

    async def fetch(self, skip: int, limit: int) -> Page[Thing]:
        shown = self.rows[skip : skip + limit]
        total = len(self.rows)
        self.pages += 1
        if self.pages <= self._times:
            self._drift(self.rows, self._random)
        data = [{"id": each} for each in shown]
        return Page[Thing].model_validate(
            {"limit": limit, "skip": skip, "totalCount": total, "data": data}
        )


def nothing(_rows: Rows, _random: Random) -> None:
    pass


def comes_first(rows: Rows, random: Random) -> None:
    rows[:0] = [f"new_{random.random()}" for _ in range(random.randrange(1, 60))]


def comes_last(rows: Rows, random: Random) -> None:
    rows.extend(f"new_{random.random()}" for _ in range(random.randrange(1, 60)))


def goes(rows: Rows, random: Random) -> None:
    for _ in range(random.randrange(1, 25)):
        rows.pop(random.randrange(len(rows)))


def moves_to_the_front(rows: Rows, random: Random) -> None:
    for _ in range(random.randrange(1, 25)):
        rows.insert(0, rows.pop(random.randrange(len(rows))))


def moves_anywhere(rows: Rows, random: Random) -> None:
    rows.insert(random.randrange(len(rows)), rows.pop(random.randrange(len(rows))))


def replaced_by_as_many(rows: Rows, random: Random) -> None:
    """The length, which would tell, stays the same."""
    count = random.randrange(OVERLAP + 1, 30)
    del rows[:count]
    rows.extend(f"new_{random.random()}" for _ in range(count))


@pytest.mark.parametrize(
    "drift",
    [
        nothing,
        comes_first,
        comes_last,
        goes,
        moves_to_the_front,
        moves_anywhere,
        replaced_by_as_many,
    ],
)
async def test_every_row_that_is_there_in_the_end_is_read_once(drift: Drift) -> None:
    for seed in range(60):
        random = Random(seed)
        server = Server(random.randrange(200, 400), drift, random.randrange(1, 4), random)
        read = [row.id async for row in walk(server.fetch, limit=LIMIT)]
        assert len(read) == len(set(read)), seed
        assert set(server.rows) <= set(read), seed


@pytest.mark.parametrize("count", [0, 1, 9, 40, 41, 90])
@pytest.mark.parametrize("limit", [2, 40])
async def test_a_listing_that_stands_still_is_read_in_one_round(count: int, limit: int) -> None:
    server = Server(count, nothing, 0, Random(0))
    told: list[tuple[int, int]] = []
    read = [row.id async for row in walk(server.fetch, lambda *at: told.append(at), limit)]
    assert read == server.rows
    assert told[-1] == (count, count)
    step = max(1, limit - min(OVERLAP, limit // 2))
    assert server.pages <= count // step + 1


async def test_a_listing_that_changes_all_the_time_ends() -> None:
    random = Random(0)
    server = Server(300, goes, 1_000, random)
    read = [row.id async for row in walk(server.fetch, limit=LIMIT)]
    assert len(read) == len(set(read))


async def test_a_length_that_is_told_wrong_ends() -> None:
    async def fetch(skip: int, limit: int) -> Page[Thing]:
        data = [{"id": f"row_{n}"} for n in range(50)][skip : skip + limit]
        return Page[Thing].model_validate(
            {"limit": limit, "skip": skip, "totalCount": 10_000, "data": data}
        )

    assert len([row async for row in walk(fetch, limit=LIMIT)]) == 50


@pytest.mark.parametrize("told_limit", [1, 10**20])
async def test_a_listing_that_is_the_same_whatever_is_skipped_ends(told_limit: int) -> None:
    async def fetch(skip: int, limit: int) -> Page[Thing]:
        del skip, limit
        return Page[Thing].model_validate(
            {"limit": told_limit, "skip": 0, "totalCount": 10**20, "data": [{"id": "row_1"}]}
        )

    assert [row.id async for row in walk(fetch, limit=LIMIT)] == ["row_1"]
