"""The workspace behind the Dub stand-in: links, clicks, customers, leads, sales and their rules.

The rules are those of the published server source (dub.md, section 2), including the two that
surprise: a lead is claimed before its click is looked up and the claim is never released, and a
sale is known again by its invoice alone.
"""

import asyncio
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal

from pydantic.alias_generators import to_camel

from gateway.sandbox.dub_models import CustomerChange, Lead, NewCustomer, Sale
from gateway.sandbox.record import Expiring, Received, forget_oldest, wall_clock_ms

WEEK_MS = 7 * 24 * 3_600 * 1_000
LEAD_CACHE_MS = 5 * 60 * 1_000
DIRECT_SALE_LEAD = "Direct sale tracking lead event"

DubDialect = Literal["current", "2024"]

_ID_CHARACTERS = string.digits + string.ascii_letters
_CLICK_CHARACTERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DubSandbox:
    """How the stand-in is set up.

    ``links`` maps the key of a short link to where it leads. ``usd_rates`` says how many US cents a
    minor unit of a currency is; other currencies are left unchanged, as the real service does.
    ``requests_per_minute`` is the Business plan's; ``None`` switches the limit off.
    ``lead_visible_after_seconds`` is how long an ``async`` lead stays invisible to sales, and
    ``sale_takes_seconds`` how long a sale with an invoice is between looking for a cached answer
    and caching its own: twins within it are both recorded, as by the real service.
    """

    api_key: str = "dub_sandbox"
    dialect: DubDialect = "current"
    requests_per_minute: int | None = 1_200
    lead_visible_after_seconds: float = 0
    sale_takes_seconds: float = 0
    short_domain: str = "go.shop.example"
    links: Mapping[str, str] = field(
        default_factory=lambda: {"summer": "https://shop.example/?utm_source=summer"}
    )
    usd_rates: Mapping[str, Decimal] = field(
        default_factory=lambda: {"eur": Decimal("1.1"), "sek": Decimal("0.1")}
    )
    now_ms: Callable[[], int] = wall_clock_ms


class Declined(Exception):  # noqa: N818 - the service's answer, not a mistake
    """A business rule of the service says no: the error's code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A short link."""

    id: str
    key: str
    url: str
    disabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Click:
    """Someone followed a short link."""

    id: str
    key: str
    clicked_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """A customer; ``external_id`` is the shop's name for it, ``click_id`` its first."""

    id: str
    external_id: str
    name: str
    email: str | None
    avatar: str | None
    click_id: str
    created_ms: int
    stripe_customer_id: str | None = None
    country: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadRecorded:
    """A lead event; ``visible_ms`` is when sales can find it."""

    number: int
    recorded_ms: int
    visible_ms: int
    cached: bool
    event_name: str
    customer_id: str
    external_id: str
    click_id: str
    mode: str
    metadata: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleRecorded:
    """A sale event; ``amount`` and ``currency`` after conversion, the other two as sent."""

    number: int
    recorded_ms: int
    event_name: str
    customer_id: str
    external_id: str
    click_id: str
    amount: int
    currency: str
    sent_amount: int
    sent_currency: str
    payment_processor: str
    invoice_id: str | None
    lead_number: int
    metadata: dict[str, Any] | None


class Workspace:
    """What the stand-in holds. Only the API's own claims and caches deduplicate anything."""

    def __init__(self, settings: DubSandbox) -> None:
        self.clicks: dict[str, Click] = {}
        self.customers: dict[str, Customer] = {}
        """By external id."""
        self.leads: Received[LeadRecorded] = Received()
        self.sales: Received[SaleRecorded] = Received()
        self.links: dict[str, Link] = {}
        self.claims: Expiring[str] = Expiring(WEEK_MS, settings.now_ms)
        self.answers: Expiring[dict[str, Any]] = Expiring(WEEK_MS, settings.now_ms)
        self.lead_visible_after_seconds = settings.lead_visible_after_seconds
        self.sale_takes_seconds = settings.sale_takes_seconds
        self._settings = settings
        self.now_ms = settings.now_ms
        self._resets: list[Callable[[], None]] = [self.claims.clear, self.answers.clear]
        self._set_links()

    def on_reset(self, forget: Callable[[], None]) -> None:
        """Have something else forgotten too when all is."""
        self._resets.append(forget)

    def _set_links(self) -> None:
        self.links.clear()
        for key, url in self._settings.links.items():
            self.set_link(key, url)

    def set_link(self, key: str, url: str, *, disabled: bool = False) -> Link:
        """Make or change a short link."""
        before = self.links.get(key)
        link_id = f"link_{_random_id()}" if before is None else before.id
        link = self.links[key] = Link(id=link_id, key=key, url=url, disabled=disabled)
        forget_oldest(self.links)
        return link

    def click(self, key: str, click_id: str | None = None) -> Click:
        """Register a click on a link, as if someone had followed it; raises ``KeyError``."""
        link = self.links[key]
        click = Click(id=click_id or _random_id(), key=link.key, clicked_ms=self.now_ms())
        self.clicks[click.id] = click
        forget_oldest(self.clicks)
        return click

    def track_lead(self, lead: Lead, *, fails: bool = False) -> dict[str, Any]:
        """Carry out ``/track/lead`` and return the answer; raises ``Declined``.

        ``fails``: what is noted first is noted, and then it goes wrong.
        """
        customer = self.customers.get(lead.customer)
        click_id = lead.click_id or (customer.click_id if customer is not None else "")
        if not click_id:
            message = (
                "The `clickId` property was not provided in the request, and no existing "
                "customer with the provided `customerExternalId` was found."
            )
            raise Declined("bad_request", message)
        # The claim comes before the look-up of the click and survives its failure.
        claim = f"{lead.customer}:{lead.event_name.lower().replace(' ', '-')}"
        link = None
        new = lead.mode == "deferred" or self.claims.put_if_absent(claim, click_id)
        if fails:
            raise Declined("internal_server_error", "Something went wrong.")
        if new:
            click = self.find_click(click_id)
            link = self._link_of(click)
            customer = customer or self._create_customer(lead, click)
            self._record_lead(lead, customer, click)
        return {
            "click": {"id": click_id},
            "link": None if link is None else self._link_json(link),
            "customer": {
                "name": _name_of(lead) if customer is None else customer.name,
                "email": lead.customer_email if customer is None else customer.email,
                "avatar": lead.customer_avatar if customer is None else customer.avatar,
                "externalId": lead.customer,
            },
        }

    async def track_sale(self, sale: Sale) -> dict[str, Any]:
        """Carry out ``/track/sale`` and return the answer; raises ``Declined``."""
        if not sale.invoice_id:
            return self._sale(sale)
        cached = self.answers.get(sale.invoice_id)
        if cached is not None:
            return cached
        # Read at the start, written at the end, with nothing in between to stop a twin.
        await asyncio.sleep(self.sale_takes_seconds)
        answer = self._sale(sale)
        if answer["sale"] is not None:
            self.answers.put(sale.invoice_id, answer)
        return answer

    def change_customer(self, customer: Customer, change: CustomerChange) -> Customer:
        """Carry out ``PATCH /customers/{id}``; raises ``Declined`` if the new id is taken."""
        values = change.model_dump(exclude_unset=True)
        if "name" in values:
            values["name"] = values["name"] or values.get("email") or customer.name
        if values.get("avatar"):
            values["avatar"] = _hosted_avatar(customer.id)
        changed = replace(customer, **values)
        if changed.external_id != customer.external_id:
            if changed.external_id in self.customers:
                raise Declined("conflict", "A customer with this external ID already exists.")
            del self.customers[customer.external_id]
        self.customers[changed.external_id] = changed
        return changed

    def create_customer(self, new: NewCustomer) -> Customer:
        """Carry out ``POST /customers``; raises ``Declined`` if the external id is taken.

        Such a customer has neither click nor link, so no sale can be attributed to it.
        """
        if new.external_id in self.customers:
            raise Declined("conflict", "A customer with this external ID already exists.")
        made = self.upsert(
            new.external_id,
            "",
            name=new.name or new.email or "Nameless Newt",
            email=new.email,
            avatar=_hosted_avatar(new.external_id) if new.avatar else None,
        )
        changed = replace(made, stripe_customer_id=new.stripe_customer_id, country=new.country)
        self.customers[made.external_id] = changed
        return changed

    def upsert(
        self, external_id: str, click_id: str, *, name: str, email: str | None, avatar: str | None
    ) -> Customer:
        """Make a customer, or change it."""
        before = self.customers.get(external_id)
        if before is None:
            before = Customer(
                id=f"cus_{_random_id()}",
                external_id=external_id,
                name=name,
                email=email,
                avatar=avatar,
                click_id=click_id,
                created_ms=self.now_ms(),
            )
        self.customers[external_id] = replace(before, name=name, email=email, avatar=avatar)
        forget_oldest(self.customers)
        return self.customers[external_id]

    def find_customer(self, name: str) -> Customer:
        """Find a customer by ``ext_…`` or ``cus_…``; raises ``Declined``."""
        if name.startswith("ext_"):
            found = self.customers.get(name.removeprefix("ext_"))
        else:
            found = next((one for one in self.customers.values() if one.id == name), None)
        if found is None:
            raise Declined("not_found", "Customer not found. Make sure that the ID is correct.")
        return found

    def customer_json(self, customer: Customer) -> dict[str, Any]:
        """Show a customer as ``/customers`` does."""
        sales = [sale for sale in self.sales if sale.customer_id == customer.id]
        return {
            **_person(customer),
            "stripeCustomerId": customer.stripe_customer_id,
            "country": customer.country,
            "sales": len(sales),
            "saleAmount": sum(sale.amount for sale in sales),
            "createdAt": _iso(customer.created_ms),
        }

    def as_json(self, last: int | None) -> dict[str, Any]:
        """Show everything, of each sort the ``last`` so many if a number is given."""
        start = -last if last else None
        return {
            "totals": {
                "leads": self.leads.total,
                "sales": self.sales.total,
                "customers": len(self.customers),
                "clicks": len(self.clicks),
                "links": len(self.links),
            },
            "leads": [_flat(lead) for lead in self.leads[start:]],
            "sales": [_flat(sale) for sale in self.sales[start:]],
            "customers": {
                name: _flat(self.customers[name]) for name in list(self.customers)[start:]
            },
            "clicks": {name: _flat(self.clicks[name]) for name in list(self.clicks)[start:]},
            "links": {name: _flat(self.links[name]) for name in list(self.links)[start:]},
        }

    def reset(self) -> None:
        """Forget everything but the links of the settings."""
        self.clicks.clear()
        self.customers.clear()
        self.leads.reset()
        self.sales.reset()
        for forget in self._resets:
            forget()
        self._set_links()

    def find_click(self, click_id: str) -> Click:
        """Find a click; raises ``Declined``."""
        click = self.clicks.get(click_id)
        if click is None:
            raise Declined("not_found", f"Click event not found for clickId: {click_id}")
        return click

    def _link_of(self, click: Click) -> Link:
        link = self.links.get(click.key)
        if link is None:
            raise Declined("not_found", f"Link not found for clickId: {click.id}")
        if link.disabled:
            raise Declined("not_found", f"Link {link.id} for clickId {click.id} is disabled")
        return link

    def _create_customer(self, body: Lead | Sale, click: Click) -> Customer:
        customer_id = f"cus_{_random_id()}"
        customer = Customer(
            id=customer_id,
            external_id=body.customer,
            name=_name_of(body),
            email=body.customer_email,
            avatar=_hosted_avatar(customer_id) if body.customer_avatar else None,
            click_id=click.id,
            created_ms=self.now_ms(),
        )
        self.customers[customer.external_id] = customer
        forget_oldest(self.customers)
        return customer

    def _record_lead(self, lead: Lead, customer: Customer, click: Click) -> None:
        if lead.mode == "deferred":
            return
        for _ in range(lead.event_quantity or 1):
            self.add_lead(customer, click, lead.event_name, mode=lead.mode, metadata=lead.metadata)

    def add_lead(
        self,
        customer: Customer,
        click: Click,
        event_name: str,
        *,
        mode: str,
        metadata: dict[str, Any] | None,
    ) -> LeadRecorded:
        """Record a lead event."""
        now_ms = self.now_ms()
        lead = LeadRecorded(
            number=self.leads.total + 1,
            recorded_ms=now_ms,
            visible_ms=now_ms + int(self.lead_visible_after_seconds * 1_000),
            cached=mode == "wait",
            event_name=event_name,
            customer_id=customer.id,
            external_id=customer.external_id,
            click_id=click.id,
            mode=mode,
            metadata=metadata,
        )
        self.leads.add(lead)
        return lead

    def _sale(self, sale: Sale) -> dict[str, Any]:
        customer = self.customers.get(sale.customer)
        if customer is not None:
            lead = self._lead_of(customer, sale.lead_event_name)
        elif sale.click_id:
            click = self.find_click(sale.click_id)
            self._link_of(click)
            customer = self._create_customer(sale, click)
            name = sale.lead_event_name or DIRECT_SALE_LEAD
            lead = self.add_lead(customer, click, name, mode="async", metadata=sale.metadata)
        else:
            return _unattributed(sale)
        if sale.amount == 0:
            return _unattributed(sale)
        return _sale_json(customer, self._record_sale(sale, customer, lead))

    def _lead_of(self, customer: Customer, event_name: str | None) -> LeadRecorded:
        lead = self.latest_lead(customer, event_name)
        if lead is not None:
            return lead
        if not customer.click_id:
            message = f"Link not found for customer {customer.external_id}"
            raise Declined("not_found", message)
        message = (
            f"Lead event not found for externalId: {customer.external_id} "
            f"and leadEventName: {event_name}"
        )
        raise Declined("not_found", message)

    def latest_lead(self, customer: Customer, event_name: str | None = None) -> LeadRecorded | None:
        """Find the customer's latest lead that a sale can see.

        Stricter than known: names are compared by case, as documented; the real service's cache
        of ``wait`` leads, which holds for five minutes, does not tell the cases apart.
        """
        now_ms = self.now_ms()
        for lead in reversed(self.leads):
            if lead.customer_id != customer.id or event_name not in {None, "", lead.event_name}:
                continue
            cached = lead.cached and now_ms < lead.recorded_ms + LEAD_CACHE_MS
            if cached or lead.visible_ms <= now_ms:
                return lead
        return None

    def _record_sale(self, sale: Sale, customer: Customer, lead: LeadRecorded) -> SaleRecorded:
        amount, currency = self._in_usd(sale.amount, sale.currency)
        recorded = SaleRecorded(
            number=self.sales.total + 1,
            recorded_ms=self.now_ms(),
            event_name=sale.event_name,
            customer_id=customer.id,
            external_id=customer.external_id,
            click_id=lead.click_id,
            amount=amount,
            currency=currency,
            sent_amount=sale.amount,
            sent_currency=sale.currency,
            payment_processor=sale.payment_processor,
            invoice_id=sale.invoice_id,
            lead_number=lead.number,
            metadata=sale.metadata,
        )
        self.sales.add(recorded)
        return recorded

    def _in_usd(self, amount: int, currency: str) -> tuple[int, str]:
        rate = self._settings.usd_rates.get(currency)
        if rate is None:
            return amount, currency
        return int((amount * rate).to_integral_value(ROUND_HALF_UP)), "usd"

    def _link_json(self, link: Link) -> dict[str, Any]:
        domain = self._settings.short_domain
        return {
            "id": link.id,
            "domain": domain,
            "key": link.key,
            "shortLink": f"https://{domain}/{link.key}",
            "url": link.url,
            "partnerId": None,
            "programId": None,
            "tenantId": None,
            "externalId": None,
        }


def _unattributed(sale: Sale) -> dict[str, Any]:
    return {"eventName": sale.event_name, "customer": None, "sale": None}


def _sale_json(customer: Customer, sale: SaleRecorded) -> dict[str, Any]:
    return {
        "eventName": sale.event_name,
        "customer": _person(customer),
        "sale": {
            "amount": sale.amount,
            "currency": sale.currency,
            "paymentProcessor": sale.payment_processor,
            "invoiceId": sale.invoice_id,
            "metadata": sale.metadata,
        },
    }


def _person(customer: Customer) -> dict[str, Any]:
    return {
        "id": customer.id,
        "name": customer.name,
        "email": customer.email,
        "avatar": customer.avatar,
        "externalId": customer.external_id,
    }


def _flat(item: LeadRecorded | SaleRecorded | Customer | Click | Link) -> dict[str, Any]:
    return {to_camel(name): value for name, value in asdict(item).items()}


def _iso(instant_ms: int) -> str:
    return datetime.fromtimestamp(instant_ms / 1_000, UTC).isoformat(timespec="milliseconds")


def _name_of(body: Lead | Sale) -> str:
    """Return the name of a new customer; the real service makes up one where none is sent."""
    return body.customer_name or body.customer_email or "Nameless Newt"


def _hosted_avatar(customer_id: str) -> str:
    """Return where the picture would be kept: any address that is sent is hosted anew."""
    return f"https://dubassets.com/customers/{customer_id}/avatar_{_random_id()[:7]}"


def _random_id() -> str:
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_CLICK_CHARACTERS))
