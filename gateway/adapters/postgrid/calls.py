"""The table of calls: PostGrid's whole documented API, once.

The client's methods are these attributes (`client.trackers.create(TrackerFields(…))`), and the
commands of `gateway postgrid` are made from `CALLS`; so neither can lack a call.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar, overload

from gateway.adapters.postgrid.answers import (
    Answer,
    Deleted,
    Event,
    Invocation,
    Item,
    Order,
    Page,
    Tracker,
    Visit,
    Webhook,
)
from gateway.adapters.postgrid.params import (
    EventsOfTypes,
    OfId,
    OrderFields,
    OrderNote,
    OrderOfId,
    OrdersSearched,
    Paged,
    Params,
    Searched,
    SearchedOfId,
    TrackerFields,
    TrackerUpdate,
    WebhookFields,
    WebhookUpdate,
)
from gateway.adapters.postgrid.walk import Told, walk

Given = TypeVar("Given", bound=Params)
Pages = TypeVar("Pages", bound=Paged)
Got = TypeVar("Got", bound=Answer)


class Exchange(Protocol):
    """Carries a call out. Raises PostGridError."""

    async def __call__(self, call: "Call[Given, Got]", params: Given) -> Got:
        """Return the answer."""


class Group:
    """Calls about one sort of thing."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange


class Call(Generic[Given, Got]):
    """One call. As an attribute of a group that has a client, it can be awaited."""

    def __init__(
        self,
        method: str,
        path: str,
        params: type[Given],
        answer: type[Got],
        summary: str,
        *,
        repeatable: bool | None = None,
    ) -> None:
        self.method = method
        self.path = path
        """Below `/print-mail/v1`; `{…}` are parameters."""
        self.params = params
        self.answer = answer
        self.summary = summary
        self.repeatable = method == "GET" if repeatable is None else repeatable
        """Whether it may be sent again when it is in doubt whether it was carried out."""
        self.group = ""
        self.name = ""

    def __set_name__(self, owner: type[Group], name: str) -> None:
        self.group = owner.__name__.lower()
        self.name = name

    @overload
    def __get__(self, group: None, owner: type[Group]) -> Self: ...

    @overload
    def __get__(self, group: Group, owner: type[Group]) -> "Method[Given, Got]": ...

    def __get__(self, group: Group | None, owner: type[Group]) -> "Self | Method[Given, Got]":
        return self if group is None else Method(self, group.exchange)


class Listing(Call[Pages, Page[Item]], Generic[Pages, Item]):
    """A call that gives pages."""

    def __init__(self, path: str, params: type[Pages], item: type[Item], summary: str) -> None:
        super().__init__("GET", path, params, Page[item], summary)  # type: ignore[valid-type]  # a type made at run time
        self.item = item

    @overload
    def __get__(self, group: None, owner: type[Group]) -> Self: ...

    @overload
    def __get__(self, group: Group, owner: type[Group]) -> "Pager[Pages, Item]": ...

    def __get__(self, group: Group | None, owner: type[Group]) -> "Self | Pager[Pages, Item]":
        return self if group is None else Pager(self, group.exchange)


class Method(Generic[Given, Got]):
    """A call, bound to a client."""

    def __init__(self, call: Call[Given, Got], exchange: Exchange) -> None:
        self.call = call
        self._exchange = exchange

    async def __call__(self, params: Given) -> Got:
        """Make the call. Raises PostGridError."""
        return await self._exchange(self.call, params)


class Pager(Method[Pages, Page[Item]], Generic[Pages, Item]):
    """A listing, bound to a client: one page by calling it, everything by `each`."""

    def each(self, params: Pages, told: Told | None = None) -> AsyncIterator[Item]:
        """Yield every row once, though rows come and go meanwhile; `limit`, `skip` are its own.

        `told` hears how far it is. Raises PostGridError; what was yielded before stays good.
        """

        async def page(skip: int, limit: int) -> Page[Item]:
            return await self(params.model_copy(update={"skip": skip, "limit": limit}))

        return walk(page, told)


class Trackers(Group):
    """Mail trackers."""

    create = Call("POST", "/trackers", TrackerFields, Tracker, "Create a tracker.")
    list = Listing("/trackers", Searched, Tracker, "List trackers.")
    get = Call("GET", "/trackers/{id}", OfId, Tracker, "Show a tracker.")
    update = Call(
        "POST", "/trackers/{id}", TrackerUpdate, Tracker, "Change a tracker.", repeatable=True
    )
    delete = Call(
        "DELETE", "/trackers/{id}", OfId, Deleted, "Delete a tracker and its data, for good."
    )


class Visits(Group):
    """Visits of a tracker."""

    list = Listing("/trackers/{id}/visits", SearchedOfId, Visit, "List a tracker's visits.")


class Orders(Group):
    """Mail pieces."""

    create = Call("POST", "/{kind}", OrderFields, Order, "Order a mail piece.", repeatable=True)
    list = Listing("/{kind}", OrdersSearched, Order, "List orders of one kind.")
    get = Call("GET", "/{kind}/{id}", OrderOfId, Order, "Show an order.")
    cancel = Call("DELETE", "/{kind}/{id}", OrderOfId, Order, "Cancel an order that is ready.")
    cancel_with_note = Call(
        "POST", "/{kind}/{id}/cancellation", OrderNote, Order, "Cancel, and say why."
    )
    progress = Call(
        "POST",
        "/{kind}/{id}/progressions",
        OrderOfId,
        Order,
        "Move a test order on to its next stage.",
    )


class Webhooks(Group):
    """Subscriptions to events."""

    create = Call("POST", "/webhooks", WebhookFields, Webhook, "Create a webhook.")
    list = Listing("/webhooks", Searched, Webhook, "List webhooks.")
    get = Call("GET", "/webhooks/{id}", OfId, Webhook, "Show a webhook.")
    update = Call(
        "POST", "/webhooks/{id}", WebhookUpdate, Webhook, "Change a webhook.", repeatable=True
    )
    delete = Call("DELETE", "/webhooks/{id}", OfId, Deleted, "Delete a webhook.")
    invocations = Listing(
        "/webhooks/{id}/invocations", SearchedOfId, Invocation, "List a webhook's deliveries."
    )


class Events(Group):
    """What happened, as webhooks were told."""

    list = Listing("/events", EventsOfTypes, Event, "List events.")


GROUPS: tuple[type[Group], ...] = (Trackers, Visits, Orders, Webhooks, Events)

AnyCall: TypeAlias = Call[Any, Any]
AnyListing: TypeAlias = Listing[Any, Any]

CALLS: Mapping[str, Mapping[str, AnyCall]] = {
    group.__name__.lower(): {
        name: call for name, call in vars(group).items() if isinstance(call, Call)
    }
    for group in GROUPS
}
"""Every call, by group and name."""
