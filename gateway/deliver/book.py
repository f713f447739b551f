"""The records of one partition without an outcome, and how far the log has been read. No IO."""

from collections.abc import Iterable

from gateway.deliver.lanes import Entry
from gateway.model.attempt import Tried
from gateway.model.journal import Open, Snapshot


class Book:
    """Every record below `commit_offset` has its outcome (rule 4)."""

    def __init__(self, next_offset: int) -> None:
        self.next = next_offset
        """The next record to read; all below it are judged."""
        self.open: dict[int, Entry] = {}
        """In the log's order."""
        self._failing: dict[int, Entry] = {}
        self._failed_since: dict[str, set[int]] = {}
        """By request kind of which it took one: what it has failed on since, as a whole."""
        self._newest: dict[str, Entry] = {}
        self._carts: dict[int, str] = {}
        """Of the entries in `_newest`, by offset."""

    def add(self, entry: Entry, cart: str | None) -> None:
        """Take in an entry; `cart` where it is the newest state of a cart."""
        self.open[entry.offset] = entry
        if entry.first_failed_ms is not None:
            self._failing[entry.offset] = entry
        if cart is not None:
            self._newest[cart] = entry
            self._carts[entry.offset] = cart

    def older_state(self, cart: str) -> Entry | None:
        """Return and forget the entry that was the cart's newest, if it is still open."""
        entry = self._newest.pop(cart, None)
        if entry is not None:
            del self._carts[entry.offset]
        return entry

    def failed(self, entry: Entry) -> None:
        """Note that the entry waits for another try."""
        self._failing[entry.offset] = entry

    def failed_whole(self, entries: Iterable[Entry]) -> None:
        """Note failures that speak of the destination, of one request."""
        for entry in entries:
            if entry.item.kind in self._failed_since:
                self._failed_since[entry.item.kind].add(entry.offset)

    def fails_alone(self, entry: Entry) -> bool:
        """Whether the destination failed on no other of its kind since it last took one."""
        failed = self._failed_since.get(entry.item.kind)
        return failed is not None and failed <= {entry.offset}

    def went_through(self, kind: str, now_ms: int) -> None:
        """Note that the destination took an event of that kind: those that fail now fail alone."""
        self._failed_since[kind] = set()
        for entry in self._failing.values():
            failed = entry.item.kind == kind and entry.first_failed_ms is not None
            if failed and entry.alone_since_ms is None:
                entry.alone_since_ms = now_ms

    def close(self, offset: int) -> Entry | None:
        """Let go of an entry that has its outcome."""
        self._failing.pop(offset, None)
        for failed in self._failed_since.values():
            failed.discard(offset)
        cart = self._carts.pop(offset, None)
        if cart is not None:
            del self._newest[cart]
        return self.open.pop(offset, None)

    def commit_offset(self) -> int:
        """Return the first record without an outcome."""
        return min(next(iter(self.open), self.next), self.next)

    def oldest_ms(self) -> int | None:
        """Return the log's time of the oldest record without an outcome."""
        entry = next(iter(self.open.values()), None)
        return entry.time_ms if entry else None

    def snapshot(self, destination: str, now_ms: int) -> Snapshot:
        """Return what a successor must know."""
        return Snapshot(destination, self.next, now_ms, tuple(map(_open, self.open.values())))


def _open(entry: Entry) -> Open:
    return Open(
        entry.offset,
        entry.attempts,
        entry.item.tried,
        entry.in_flight,
        entry.first_failed_ms,
        entry.alone_since_ms,
        entry.waits_since_ms,
        entry.next_ms,
        entry.limited,
    )


def remembered(entry: Entry, memory: Open) -> Entry:
    """Return the entry with what a predecessor knew of it."""
    entry.attempts = memory.attempts
    if memory.tried is not Tried.NEVER:  # a replay knows what was tried before it
        entry.item.tried = Tried(memory.tried)
    entry.first_failed_ms = memory.first_failed_ms
    entry.alone_since_ms = memory.alone_since_ms
    entry.waits_since_ms = memory.waits_since_ms
    entry.next_ms = memory.next_ms
    entry.limited = memory.limited
    return entry
