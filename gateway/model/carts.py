"""Which state of a cart is the newest (rule 3). Pure: a fold over the updates in the log's order.

Updates of one browser are ordered by its own clock, those of different senders by corrected time,
ties by the log.
"""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Update:
    """One update of a cart, as the log has it."""

    offset: int
    sender: str | None
    own_ms: int
    corrected_ms: int
    closes: bool = False
    """An emptied cart that a sale derived: later than all of its cart before it in the log."""


@dataclass(slots=True)
class _Cart:
    newest: Update
    sent_ms: int
    last_offset: int


class Carts:
    """The newest state of each cart of one partition, within the window."""

    def __init__(self, step_ms: int) -> None:
        """`step_ms`: the precision of the time sent, which rises by at least that much."""
        self._step = step_ms
        self._carts: dict[str, _Cart] = {}

    def __len__(self) -> int:
        return len(self._carts)

    def see(self, key: str, update: Update) -> int | None:
        """Take in an update; the time to send for it in ms, or None when a newer one is known."""
        cart = self._carts.pop(key, None)
        rounded = update.corrected_ms - update.corrected_ms % self._step
        if cart is None:
            self._carts[key] = _Cart(update, rounded, update.offset)
            return rounded
        self._carts[key] = cart  # last in order again: the front is what was touched longest ago
        cart.last_offset = update.offset
        if not _newer(update, cart.newest):
            return None
        cart.newest = _later(update, cart.newest) if update.closes else update
        cart.sent_ms = max(rounded, cart.sent_ms + self._step)
        return cart.sent_ms

    def knows(self, key: str) -> bool:
        """Whether an update of the cart is in the window."""
        return key in self._carts

    def forget_below(self, offset: int) -> None:
        """Drop carts whose last update lies below the window's first offset."""
        gone = []
        for key, cart in self._carts.items():
            if cart.last_offset >= offset:
                break
            gone.append(key)
        for key in gone:
            del self._carts[key]


def _newer(update: Update, than: Update) -> bool:
    if update.closes:
        return True
    if update.sender is not None and update.sender == than.sender:
        return update.own_ms >= than.own_ms
    return update.corrected_ms >= than.corrected_ms


def _later(close: Update, than: Update) -> Update:
    """Return the close at a place no earlier than what it closes, so that nothing older follows."""
    same = close.sender is not None and close.sender == than.sender
    return Update(
        close.offset,
        close.sender,
        max(close.own_ms, than.own_ms) if same else close.own_ms,
        max(close.corrected_ms, than.corrected_ms),
        closes=True,
    )
