"""How long sales wait for a customer or lead that Dub does not know yet."""

from weakref import WeakValueDictionary

from gateway.adapters.destinations.dub.dialect import Awaits
from gateway.model.attempt import Again, Done, Item
from gateway.model.outcome import Outcome, Reason

MOST_WAITING = 2000
"""So many wait at most, in one process. Half of them wait as long as they may; the more there are
beyond that, the shorter, so that those who wait never keep deliver from reading on."""

_TRIES = 2
"""In the time of a wait. A lead that passes through us brings another: the rest is for customers
that Dub learns of elsewhere."""


class Waiting:
    """Counts the sales that were told to wait and are still about."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._sales: WeakValueDictionary[int, Item] = WeakValueDictionary()

    def again(self, sale: Item, awaits: Awaits) -> Again:
        """Let a sale wait; it is unattributed when its time is over."""
        self._sales[id(sale)] = sale
        room = 1 - (len(self._sales) - 1) / MOST_WAITING
        seconds = self._seconds * max(0.0, min(1.0, 2 * room))
        detail = awaits.detail
        if seconds < self._seconds:
            detail += f" (waiting {seconds:.0f} s only: {len(self._sales)} sales wait)"
        return Again(
            Reason.UNKNOWN_CUSTOMER,
            None if awaits.soon else seconds / _TRIES,
            detail,
            within_seconds=seconds,
            then=Done(Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER, detail),
        )
