"""From mailbox to sale: what is linked, by which field, and where it ends."""

from dataclasses import replace
from typing import Any

from gateway.model.chain import MOST_EVENTS, MOST_LOOKUPS, Chain, chain_of
from gateway.model.envelope import Envelope, encode
from gateway.model.instant import format_ms
from gateway.model.life import Known, Place

NOON = 1_795_000_000_000


def known(offset: int, kind: str, minutes: float = 0, site: str = "shop", **fields: Any) -> Known:
    at_ms = NOON + int(minutes * 60_000)
    event = {"type": kind, "id": f"e-{offset}", "time": format_ms(at_ms), **fields}
    record = encode(Envelope(site, f"k-{offset}", at_ms, at_ms, "full", event))
    return Known(Place(0, offset), at_ms, site, kind, f"e-{offset}", record, ())


SALE = known(9, "sale", customerId="u-1", cartReference="c-1", visitorId="v-2", amount=1)
STORY = [
    known(1, "mail_order", -9000, orderId="letter_1", mailReference="m-1", status="printing"),
    known(2, "mail_visit", -100, orderId="letter_1", trackerId="t-1", mailReference="m-1"),
    known(3, "page", -99, mailReference="m-1", clickId="k-1", visitorId="v-1"),
    known(4, "product", -98, visitorId="v-1", itemId="SKU"),
    known(5, "lead", -50, visitorId="v-1", customerId="u-1", clickId="k-1"),
    known(6, "cart", -1, cartReference="c-1", visitorId="v-2"),
]


def follow(chain: Chain, log: list[Known]) -> list[str]:
    while todo := chain.todo():
        for link in todo:
            chain.take([each for each in log if link.value.encode() in each.record])
    return [each.known.id for each in chain.story()]


def begun(*events: Known) -> Chain:
    chain = chain_of(events)
    assert chain is not None
    return chain


def test_a_sale_leads_back_to_the_mail_piece_and_tells_it_in_order() -> None:
    chain = begun(SALE)
    assert follow(chain, [SALE, *STORY[::-1]]) == [f"e-{number}" for number in range(1, 7)]
    by = {each.known.id: each.by for each in chain.story()}
    assert by["e-5"] == ("customerId",)
    assert by["e-3"] == ("clickId", "visitorId")
    assert "mailReference" in by["e-1"]
    assert chain.ids() == {
        "mailReference": ("m-1",),
        "orderId": ("letter_1",),
        "clickId": ("k-1",),
        "customerId": ("u-1",),
        "visitorId": ("v-2", "v-1"),
        "cartReference": ("c-1",),
    }
    assert not chain.cut


def test_a_sale_that_cannot_be_read_leads_nowhere_and_an_earlier_one_does() -> None:
    assert chain_of([replace(SALE, record=b"rubbish")]) is None
    assert chain_of([replace(SALE, record=b"rubbish"), SALE]) is not None


def test_later_events_other_sites_and_other_fields_with_the_same_text_stay_out() -> None:
    log = [
        known(1, "page", 1, customerId="u-1"),
        known(2, "page", -1, site="other", customerId="u-1"),
        known(3, "cart", -1, cartReference="u-1"),
        known(4, "page", -1, customerId="u-2"),
    ]
    assert follow(begun(SALE), [*log, SALE]) == []


def test_only_a_sale_has_a_story() -> None:
    assert chain_of(STORY) is None
    assert chain_of([]) is None


def test_what_many_share_ends_the_chain_and_it_says_so() -> None:
    many = [known(n + 10, "page", -n, customerId="u-1") for n in range(MOST_EVENTS + 5)]
    chain = begun(SALE)
    assert len(follow(chain, many)) == MOST_EVENTS
    assert chain.cut
    wide = [known(n + 10, "page", -n, customerId="u-1", clickId=f"k-{n}") for n in range(60)]
    chain = begun(SALE)
    looked = 0
    while todo := chain.todo():
        looked += len(todo)
        chain.take(wide)
    assert looked <= MOST_LOOKUPS
    assert chain.cut
