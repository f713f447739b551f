"""Answers how each destination does, from the index."""

import sqlite3
from collections.abc import Iterable, Iterator

import orjson

from gateway.adapters.index import file
from gateway.model.life import Paused, Place, Standing, Trouble

Rows = Iterable[sqlite3.Row]


def standings(connection: sqlite3.Connection, now_ms: int) -> list[Standing]:
    """Return how each destination does that the index has heard of."""
    hour: dict[str, dict[str, int]] = {}
    for name, outcome, number in connection.execute(
        "SELECT destination, outcome, sum(number) FROM tallies WHERE minute > ? GROUP BY 1, 2",
        (now_ms // file.MINUTE_MS - 60,),
    ):
        hour.setdefault(name, {})[outcome] = number
    waiting = {
        name: (number, oldest)
        for name, number, oldest in connection.execute(
            "SELECT destination, count(*), min(time_ms) FROM waiting GROUP BY 1"
        )
    }
    heard: dict[str, list[sqlite3.Row]] = {}
    for row in connection.execute("SELECT * FROM heard"):
        heard.setdefault(row["destination"], []).append(row)
    troubles = {
        row["destination"]: Trouble(*tuple(row)[1:])
        for row in connection.execute("SELECT * FROM troubles")
    }
    return [
        Standing(
            name,
            hour.get(name, {}),
            *waiting.get(name, (0, None)),
            max((row["made_ms"] for row in heard.get(name, ())), default=None),
            troubles.get(name),
            _behind(connection, heard.get(name, ())),
            tuple(_pauses(connection, name)),
        )
        for name in sorted({*hour, *waiting, *heard, *troubles})
    ]


def _pauses(connection: sqlite3.Connection, destination: str) -> Iterator[Paused]:
    for row in connection.execute(
        "SELECT endpoint, made_ms, detail FROM pauses WHERE destination = ?", (destination,)
    ):
        yield Paused(*row)


def _behind(connection: sqlite3.Connection, rows: Rows) -> tuple[Place, ...]:
    """Return, per partition, the oldest record that the destination last called open or unread."""
    places = [_oldest_open(connection, row) for row in rows if row["next"] is not None]
    return tuple(place for place in places if place)


def _oldest_open(connection: sqlite3.Connection, row: sqlite3.Row) -> Place | None:
    destination, partition, following = row["destination"], row["partition"], row["next"]
    for offset in sorted(orjson.loads(row["open"])):
        settled = connection.execute(
            "SELECT 1 FROM outcomes WHERE partition = ? AND offset = ? AND destination = ?",
            (partition, offset, destination),
        ).fetchone()
        if not settled:
            return Place(partition, offset)
    beyond = connection.execute(
        "SELECT 1 FROM steps WHERE partition = ? AND offset >= ? AND destination = ? LIMIT 1",
        (partition, following, destination),
    ).fetchone()
    return None if beyond else Place(partition, following)
