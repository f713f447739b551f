"""What the contract suite must know of each kind of destination, and how it makes one.

The kinds are those of the settings union, one of each as `config/reference.toml` has it: a kind
without a case is a type error in `cases_of`, and ends the collection of the tests.
"""

import base64
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, assert_never

import orjson

from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.adapters.destinations.file import FileSettings
from gateway.adapters.destinations.voyado import VoyadoSettings
from gateway.adapters.destinations.webhook import WebhookSettings
from gateway.adapters.http_client import HttpClients
from gateway.http.assets import data_folder
from gateway.model.outcome import Outcome, Reason
from gateway.ports import Destination
from gateway.settings.load import load
from gateway.settings.sections import AnyDestination
from gateway.wiring.parts import build_destination
from tests.contract.scripted import Got
from tests.sample import NOW_MS, StoppedClock

SECRET = "dub_s3cret-key"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the specification's own example


class Documented(NamedTuple):
    """An answer that the destination's documents name, and what it means for the event."""

    kind: str
    status: int
    body: bytes
    outcome: Outcome | None
    """None: it is tried again."""
    reason: Reason


@dataclass(frozen=True)
class Case:
    """A kind of destination over HTTP, or of one that is not."""

    settings: type[AnyDestination]
    kinds: dict[str, tuple[str, bytes]]
    """For each request kind an event, and a body that says success."""
    at: Callable[[str], dict[str, Any]]
    """The settings that have no default, for a server at this address."""
    address: str = ""
    """The setting that holds the address."""
    secret: str = SECRET
    proves: Callable[[Got], bool] = lambda _: False
    """Whether a request proves who sends it."""
    http: bool = True
    reads_answers: bool = False
    """Whether a success that can't be read is no success."""
    batches: bool = True
    documented: list[Documented] = field(default_factory=list)
    """More than what `test_destination.py` asks of all."""

    def make(self, url: str, clients: HttpClients, folder: Path, **more: Any) -> Destination:
        """Make one for a server at `url`, or for a folder."""
        chosen = {**self.at(url if self.http else str(folder)), **more}
        settings = self.settings.model_validate(chosen)
        return build_destination(settings, clients, StoppedClock())


def cases_of(settings: AnyDestination) -> dict[str, Case]:
    """Return the cases of a kind by name: one, or one for each API that it speaks."""
    match settings:
        case VoyadoSettings():
            return {"voyado": _voyado()}
        case DubSettings():
            return {"dub": _dub(), "dub of 2024": _dub_of_2024()}
        case WebhookSettings():
            return {"webhook": _webhook()}
        case FileSettings():
            return {"file": _file()}
        case _:
            assert_never(settings)


def _file() -> Case:
    return Case(
        FileSettings,
        {"events": ("page", b"")},
        lambda folder: {"kind": "file", "path": folder},
        http=False,
    )


def _voyado() -> Case:
    def code(name: str) -> bytes:
        return orjson.dumps({"code": name})

    documented = [
        *(
            Documented(kind, status, body, outcome, reason)
            for kind in ("carts", "productviews")
            for status, body, outcome, reason in (
                (400, code("InvalidContactType"), Outcome.DEAD, Reason.REFUSED),
                (404, code("ContactNotFound"), Outcome.DEAD, Reason.REFUSED),
                (409, b'{"messageDetails": {}}', Outcome.DEAD, Reason.REFUSED),
                (500, code("InvalidSystemConfiguration"), None, Reason.UNAVAILABLE),
                (500, b"An error has occurred", None, Reason.UNAVAILABLE),
            )
        )
    ]
    return Case(
        VoyadoSettings,
        {"carts": ("cart", b""), "productviews": ("product", b"")},
        lambda url: {"kind": "voyado", "base_url": url, "api_key": SECRET},
        address="base_url",
        proves=lambda got: got.headers["apikey"] == SECRET,
        documented=documented,
    )


def _dub() -> Case:
    def error(code: str, message: str = "no") -> bytes:
        return orjson.dumps({"error": {"code": code, "message": message}})

    click = error("not_found", "Click event not found for clickId: x")
    lead = error("not_found", "Lead event not found for externalId: u and leadEventName: x")
    customer = error("not_found", "Customer not found.")
    workspace = error("not_found", "Workspace id not found.")
    documented = [
        Documented("lead", 404, click, Outcome.DEAD, Reason.UNKNOWN_CLICK),
        Documented("sale", 404, click, None, Reason.UNKNOWN_CUSTOMER),
        Documented("sale", 404, lead, None, Reason.UNKNOWN_CUSTOMER),
        Documented(
            "sale",
            200,
            b'{"eventName": "Purchase", "customer": null, "sale": null}',
            None,
            Reason.UNKNOWN_CUSTOMER,
        ),
        Documented("customer", 404, customer, Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER),
        *(
            Documented(kind, status, body, outcome, reason)
            for kind in ("lead", "sale", "customer")
            for status, body, outcome, reason in (
                (400, error("bad_request", "Invalid JSON"), Outcome.DEAD, Reason.REFUSED),
                (401, error("unauthorized"), None, Reason.UNAUTHORIZED),
                (403, error("forbidden"), None, Reason.UNAUTHORIZED),
                (403, error("exceeded_limit"), None, Reason.UNAUTHORIZED),
                (404, workspace, None, Reason.UNAUTHORIZED),
                (409, error("conflict"), Outcome.DEAD, Reason.REFUSED),
                (422, error("unprocessable_entity"), Outcome.DEAD, Reason.REFUSED),
                (429, error("rate_limit_exceeded"), None, Reason.RATE_LIMITED),
                (500, error("internal_server_error"), None, Reason.UNAVAILABLE),
            )
        ),
    ]
    return Case(
        DubSettings,
        {
            "lead": ("lead", b'{"click": {"id": "c"}, "link": {"id": "link_1"}, "customer": {}}'),
            "sale": ("sale", b'{"eventName": "Purchase", "customer": {}, "sale": {"amount": 1}}'),
            "customer": ("customer", b'{"id": "cus_1"}'),
        },
        lambda url: {"kind": "dub", "base_url": url, "api_key": SECRET},
        address="base_url",
        proves=lambda got: got.headers["authorization"] == f"Bearer {SECRET}",
        reads_answers=True,
        batches=False,
        documented=documented,
    )


def _dub_of_2024() -> Case:
    today = _dub()
    repeated = orjson.dumps(
        {
            "error": {
                "code": "rate_limit_exceeded",
                "message": "Rate limit exceeded for customer u-1: Sign up",
            }
        }
    )
    return replace(
        today,
        kinds={
            "lead": ("lead", b'{"click": {"id": "c"}, "customer": {}}'),
            "sale": today.kinds["sale"],
            "customer": ("customer", b'{"customerId": "u-1"}'),
        },
        at=lambda url: {**today.at(url), "dialect": "2024", "payment_processor": "stripe"},
        documented=[
            *today.documented,
            Documented("lead", 429, repeated, Outcome.DUPLICATE, Reason.ALREADY_KNOWN),
        ],
    )


def _webhook() -> Case:
    documented = [
        Documented("events", status, b"no", outcome, reason)
        for status, outcome, reason in (
            (301, None, Reason.UNAUTHORIZED),
            (308, None, Reason.UNAUTHORIZED),
            (410, None, Reason.UNAUTHORIZED),
            (411, Outcome.DEAD, Reason.REFUSED),
            (415, Outcome.DEAD, Reason.REFUSED),
            (501, None, Reason.UNAVAILABLE),
        )
    ]
    return Case(
        WebhookSettings,
        {"events": ("page", b"")},
        lambda url: {
            "kind": "webhook",
            "url": f"{url}/in" if url else url,
            "secrets": [WEBHOOK_SECRET],
            "allow_private_addresses": True,
        },
        address="url",
        secret=WEBHOOK_SECRET,
        proves=_is_signed,
        documented=documented,
    )


def _is_signed(got: Got) -> bool:
    """Compute the signature by the specification's words, without its library."""
    message, time = got.headers["webhook-id"], got.headers["webhook-timestamp"]
    key = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
    signed = hmac.digest(key, f"{message}.{time}.".encode() + got.body, "sha256")
    expected = "v1," + base64.b64encode(signed).decode()
    return got.headers["webhook-signature"] == expected and time == str(NOW_MS // 1000)


REFERENCE = load(data_folder("config") / "reference.toml", {}).destinations
CASES: dict[str, Case] = {
    name: case for settings in REFERENCE.values() for name, case in cases_of(settings).items()
}
