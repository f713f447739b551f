"""Reads a listing to its end while rows come and go.

PostGrid pages by offset only, has no cursor and does not say in which order it lists
(postgrid.md, 1), so a row may be on two pages, or on none.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable

from gateway.adapters.postgrid.answers import Item, Page

LIMIT = 100
OVERLAP = 10
"""Rows of a page that are read again with the next one. If none of them is known, more rows than
that have gone meanwhile, and others may have been passed over."""
ROUNDS = 5
"""How often a listing is begun anew because its length changed while it was read."""

MOST_STEPS_BACK = 50
"""Of one pass; a listing that shrinks faster than it is read is not read for ever."""

Told = Callable[[int, int], None]
"""Told after each page how many rows have been read, and how many there are."""


async def walk(
    fetch: Callable[[int, int], Awaitable[Page[Item]]],
    told: Told | None = None,
    limit: int = LIMIT,
) -> AsyncGenerator[Item]:
    """Yield every row once; `fetch` gives the page for `skip` and `limit`.

    New rows at the front push others on: those come twice, and are told by their id; the new ones
    are found by beginning again, until known rows are reached. Rows that go pull others forward:
    pages overlap, and where the overlap is lost, it goes back.
    """
    known: set[str] = set()
    for round_ in range(ROUNDS):
        reading = _Reading(known, limit, again=round_ > 0)
        skip: int | None = 0
        while skip is not None:
            page = await fetch(skip, limit)
            rows, skip = reading.take(page, skip)
            if told is not None:
                told(len(known), page.total_count)
            for row in rows:
                yield row
        if not reading.changed:
            return


class _Reading:
    """One pass over a listing: what of each page is new, and where to read next."""

    def __init__(self, known: set[str], limit: int, *, again: bool) -> None:
        self.changed = False
        """Whether the listing's length changed between two pages."""
        self._known = known
        self._limit = limit
        self._again = again
        self._total: int | None = None
        self._steps_back = 0

    def take(self, page: Page[Item], skip: int) -> tuple[list[Item], int | None]:
        """Return the rows that are new, and the next `skip`, or None at the end."""
        self.changed = self.changed or self._total not in {None, page.total_count}
        self._total = page.total_count
        fresh = {row.id: row for row in page.data if row.id not in self._known}
        self._known.update(fresh)
        return list(fresh.values()), self._next(skip, len(page.data), len(fresh))

    def _next(self, skip: int, count: int, fresh: int) -> int | None:
        if skip and fresh == count and self._steps_back < MOST_STEPS_BACK:
            # Not one known row: whatever pulled these forward may have pulled others past us.
            self._steps_back += 1
            self.changed = True
            return max(0, skip - max(1, self._limit - OVERLAP))
        ended = count == 0 or skip + count >= (self._total or 0)
        if ended or (self._again and fresh == 0):
            return None
        return skip + max(1, count - min(OVERLAP, count // 2))
