"""Reads a listing to its end while rows come and go.

PostGrid pages by offset only, has no cursor and does not say in which order it lists
(postgrid.md, 1), so a row may be on two pages, or on none.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable

from gateway.adapters.postgrid.answers import Item, Page

LIMIT = 100
OVERLAP = 10
"""Rows of a page that are read again with the next one: so many may go in between unnoticed."""
ROUNDS = 5
"""How often a listing is begun anew because it changed while it was read."""

Told = Callable[[int, int], None]
"""Told after each page how many rows have been read, and how many there are."""


async def walk(
    fetch: Callable[[int, int], Awaitable[Page[Item]]],
    told: Told | None = None,
    limit: int = LIMIT,
) -> AsyncGenerator[Item]:
    """Yield every row once; `fetch` gives the page for `skip` and `limit`.

    New rows at the front push others on: those come twice, and are told by their id; the new ones
    are found by beginning again, until known rows are reached. Rows that go pull others past the
    reader, which the overlap makes up for; where that is lost, and where fewer rows were found
    than there are said to be, everything is read again.
    """
    known: set[str] = set()
    whole = True
    for round_ in range(ROUNDS):
        reading = _Reading(known, limit, whole=whole)
        skip: int | None = 0
        while skip is not None:
            page = await fetch(skip, limit)
            rows, skip = reading.take(page, skip)
            if told is not None:
                told(len(known), page.total_count)
            for row in rows:
                yield row
        lacking = len(known) < reading.total
        if not (reading.changed or lacking):
            return
        whole = reading.lost or (lacking and round_ > 0)


class _Reading:
    """One pass over a listing: what of each page is new, and where to read next."""

    def __init__(self, known: set[str], limit: int, *, whole: bool) -> None:
        self.total = 0
        self.changed = False
        """Whether the listing changed between two pages, as far as that shows."""
        self.lost = False
        """Whether rows may have been pulled past it."""
        self._known = known
        self._limit = limit
        self._whole = whole

    def take(self, page: Page[Item], skip: int) -> tuple[list[Item], int | None]:
        """Return the rows that are new, and the next `skip`, or None at the end."""
        fresh = {row.id: row for row in page.data if row.id not in self._known}
        count = len(page.data)
        if skip:
            self.lost = self.lost or 0 < count == len(fresh)  # not a row of the overlap is known
            self.changed = self.changed or self.lost or page.total_count != self.total
        self.total = page.total_count
        self._known.update(fresh)
        ended = count == 0 or skip + count >= self.total or not (fresh or self._may_lack(skip))
        following = skip + max(1, count - min(OVERLAP, count // 2))
        return list(fresh.values()), None if ended else following

    def _may_lack(self, skip: int) -> bool:
        """Whether new rows may follow known ones: where all is read again, as far as they reach.

        A PostGrid that answers the same page whatever is skipped would never end otherwise.
        """
        return self._whole and skip <= len(self._known) + self._limit
