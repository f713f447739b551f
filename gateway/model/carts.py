"""Which state of a cart is the newest (rule 3). Pure: a fold over the updates in the log's order.

Updates of one browser are ordered by its own clock, those of different senders by corrected time,
ties by the log.
"""

from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

CART_BYTES = 220
"""A cart in memory; measured with a million of them."""


@dataclass(slots=True, frozen=True)
class Update:
    """One update of a cart, as the log has it."""

    offset: int
    sender: str | None
    own_ms: int
    corrected_ms: int
    closes: bool = False
    """An emptied cart that a sale derived: later than all of its cart before it in the log."""


class _Marked(NamedTuple):
    """An update, its sender as a part of its hash."""

    offset: int
    sender: int | None
    own_ms: int
    corrected_ms: int
    closes: bool


class _Cart(NamedTuple):
    newest: _Marked
    sent_ms: int
    last_offset: int


class Carts:
    """The newest state of each cart of one partition, within the window.

    A cart takes CART_BYTES, so that a window full of them has room: it is kept packed, and keys
    and senders as 60 bits of their hashes, as in the window.
    """

    def __init__(self, step_ms: int) -> None:
        """`step_ms`: the precision of the time sent, which rises by at least that much."""
        self._step = step_ms
        self._carts: dict[int, bytes] = {}
        """Last in order is what was touched last."""
        self._floor = 0
        self._purged = 0

    def __len__(self) -> int:
        return len(self._carts)

    def see(self, key: str, update: Update) -> int | None:
        """Take in an update; the time to send for it in ms, or None when a newer one is known."""
        cart = self._find(key)
        rounded = update.corrected_ms - update.corrected_ms % self._step
        if cart is None:
            self._put(key, _Cart(_marked(update), rounded, update.offset))
            return rounded
        marked = _marked(update)
        if not _newer(marked, cart.newest):
            self._put(key, cart._replace(last_offset=update.offset))
            return None
        newest = _later(marked, cart.newest) if update.closes else marked
        sent_ms = max(rounded, cart.sent_ms + self._step)
        self._put(key, _Cart(newest, sent_ms, update.offset))
        return sent_ms

    def knows(self, key: str) -> bool:
        """Whether an update of the cart is in the window."""
        return self._find(key) is not None

    def sent_ms(self, key: str, offset: int) -> int | None:
        """Return the time to send for the update at `offset`; None where it is not the newest."""
        cart = self._find(key)
        return cart.sent_ms if cart and cart.newest.offset == offset else None

    def forget_below(self, offset: int) -> None:
        """Forget carts whose last update lies below the window's first offset.

        They are unknown at once, and give back their room a good many at a time: each look at a
        dictionary's front passes all the holes there.
        """
        self._floor = offset
        if offset - self._purged < max(1024, len(self._carts) // 8):
            return
        self._purged = offset
        gone = []
        for mark, packed in self._carts.items():
            if _unpacked(packed).last_offset >= offset:
                break
            gone.append(mark)
        for mark in gone:
            del self._carts[mark]

    def _find(self, key: str) -> _Cart | None:
        packed = self._carts.get(_mark(key))
        cart = _unpacked(packed) if packed else None
        return cart if cart and cart.last_offset >= self._floor else None

    def _put(self, key: str, cart: _Cart) -> None:
        mark = _mark(key)
        self._carts.pop(mark, None)
        newest = cart.newest
        self._carts[mark] = _PACKED.pack(
            newest.offset,
            _NOBODY if newest.sender is None else newest.sender,
            newest.own_ms,
            newest.corrected_ms,
            newest.closes,
            cart.sent_ms,
            cart.last_offset,
        )


_PACKED = Struct("<qqqq?qq")
_NOBODY = 1 << 62


def _mark(text: str) -> int:
    return hash(text) >> 4


def _marked(update: Update) -> _Marked:
    sender = None if update.sender is None else _mark(update.sender)
    return _Marked(update.offset, sender, update.own_ms, update.corrected_ms, update.closes)


def _unpacked(packed: bytes) -> _Cart:
    offset, sender, own_ms, corrected_ms, closes, sent_ms, last_offset = _PACKED.unpack(packed)
    known = None if sender == _NOBODY else sender
    return _Cart(_Marked(offset, known, own_ms, corrected_ms, closes), sent_ms, last_offset)


def _newer(update: _Marked, than: _Marked) -> bool:
    if update.closes:
        return True
    if update.sender is not None and update.sender == than.sender:
        return update.own_ms >= than.own_ms
    return update.corrected_ms >= than.corrected_ms


def _later(close: _Marked, than: _Marked) -> _Marked:
    """Return the close at a place no earlier than what it closes, so that nothing older follows."""
    same = close.sender is not None and close.sender == than.sender
    return _Marked(
        close.offset,
        close.sender,
        max(close.own_ms, than.own_ms) if same else close.own_ms,
        max(close.corrected_ms, than.corrected_ms),
        closes=True,
    )
