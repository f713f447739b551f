"""Dub's conversion tracking as it was in October and November 2024 (dub.md, 1a).

Names, limits, answers and rules are those of the published server source of that time. What it did
otherwise than today's: a repeated lead is a 429, of which only the message tells that it is no
matter of rate; a sale of somebody unknown is a 404; no invoice is known again; a lead overwrites
its customer, with nothing where nothing is sent; customers have a tracking endpoint, which makes
them too.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from gateway.sandbox.dub_models import Body, Email, Metadata, Name, at_most
from gateway.sandbox.dub_workspace import Customer, Declined, DubSandbox, SaleRecorded, Workspace
from gateway.sandbox.record import Expiring

HOUR_MS = 3_600 * 1_000

CustomerId = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), at_most(100)]


class Lead2024(Body):
    """Body of ``POST /track/lead``."""

    click_id: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    event_name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), at_most(50)]
    customer_id: CustomerId
    customer_name: Name | None = None
    customer_email: Email | None = None
    customer_avatar: Name | None = None
    metadata: Metadata | None = None


class Sale2024(Body):
    """Body of ``POST /track/sale``."""

    customer_id: CustomerId
    amount: int = Field(gt=0, le=2**53 - 1)
    payment_processor: Literal["stripe", "shopify", "paddle"]
    event_name: Annotated[str, at_most(50)] = "Purchase"
    invoice_id: str | None = None
    currency: str = "usd"
    metadata: Metadata | None = None


class Customer2024(Body):
    """Body of ``POST /track/customer``; what is not known is left out, not null."""

    customer_id: CustomerId
    customer_name: Name = ""
    customer_email: Email = ""
    customer_avatar: Name = ""


class Service2024:
    """The three operations; each returns its answer or raises ``Declined``."""

    def __init__(self, settings: DubSandbox, workspace: Workspace) -> None:
        self._workspace = workspace
        self._claims: Expiring[str] = Expiring(HOUR_MS, settings.now_ms)
        workspace.on_reset(self._claims.clear)

    def lead(self, lead: Lead2024, *, fails: bool = False) -> dict[str, Any]:
        """Record a lead, once an hour for a customer and event name; make or change its customer.

        ``fails``: what is noted first is noted, and then it goes wrong.
        """
        name = lead.event_name.lower().replace(" ", "-", 1)  # only the first, as there
        if not self._claims.put_if_absent(f"{lead.customer_id}:{name}", lead.click_id):
            message = f"Rate limit exceeded for customer {lead.customer_id}: {lead.event_name}"
            raise Declined("rate_limit_exceeded", message)
        if fails:
            raise Declined("internal_server_error", "Something went wrong.")
        click = self._workspace.find_click(lead.click_id)
        customer = self._workspace.upsert(
            lead.customer_id,
            click.id,
            name=lead.customer_name or lead.customer_email or "Nameless Newt",
            email=lead.customer_email,
            avatar=lead.customer_avatar,
        )
        self._workspace.add_lead(
            customer, click, lead.event_name, mode="async", metadata=lead.metadata
        )
        return {
            "click": {"id": lead.click_id},
            "customer": {
                "id": lead.customer_id,
                "name": lead.customer_name,
                "email": lead.customer_email,
                "avatar": lead.customer_avatar,
            },
            # What answers were before, kept for old clients.
            "clickId": lead.click_id,
            "customerId": lead.customer_id,
            "customerName": lead.customer_name,
            "customerEmail": lead.customer_email,
            "customerAvatar": lead.customer_avatar,
        }

    def sale(self, sale: Sale2024) -> dict[str, Any]:
        """Record a sale of a customer with a lead, every time."""
        customer = self._workspace.customers.get(sale.customer_id)
        if customer is None:
            message = f"Customer not found for customerId: {sale.customer_id}"
            raise Declined("not_found", message)
        lead = self._workspace.latest_lead(customer)
        if lead is None:
            raise Declined("not_found", f"Lead event not found for customerId: {customer.id}")
        self._workspace.sales.add(
            SaleRecorded(
                number=self._workspace.sales.total + 1,
                recorded_ms=self._workspace.now_ms(),
                event_name=sale.event_name,
                customer_id=customer.id,
                external_id=customer.external_id,
                click_id=lead.click_id,
                amount=sale.amount,
                currency=sale.currency,
                sent_amount=sale.amount,
                sent_currency=sale.currency,
                payment_processor=sale.payment_processor,
                invoice_id=sale.invoice_id,
                lead_number=lead.number,
                metadata=sale.metadata,
            )
        )
        return _sale_answer(customer, sale)

    def customer(self, told: Customer2024) -> dict[str, Any]:
        """Make a customer, or change what is told of it."""
        before = self._workspace.customers.get(told.customer_id)
        customer = self._workspace.upsert(
            told.customer_id,
            before.click_id if before else "",
            name=told.customer_name or (before.name if before else "Nameless Newt"),
            email=told.customer_email or (before.email if before else None),
            avatar=told.customer_avatar or (before.avatar if before else None),
        )
        return {
            "customerId": customer.external_id,
            "customerName": customer.name,
            "customerEmail": customer.email,
            "customerAvatar": customer.avatar,
        }


def _sale_answer(customer: Customer, sale: Sale2024) -> dict[str, Any]:
    sold = {
        "amount": sale.amount,
        "currency": sale.currency,
        "paymentProcessor": sale.payment_processor,
        "invoiceId": sale.invoice_id,
        "metadata": sale.metadata,
    }
    return {
        "eventName": sale.event_name,
        "customer": {
            "id": customer.external_id,
            "name": customer.name,
            "email": customer.email,
            "avatar": customer.avatar,
        },
        "sale": sold,
        # What answers were before, kept for old clients.
        **sold,
    }
