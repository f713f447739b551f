"""What the ledger tells, as lines."""

from typing import Any

from gateway.cli.ledger_text import trace_lines

NOTHING: dict[str, Any] = {
    "id": "o-77",
    "events": [],
    "deadLetters": [],
    "searched": None,
    "more": False,
    "behind": [],
    "behindIds": {},
    "behindCut": False,
    "paused": [],
    "reading": {"since": "2026-11-20T12:00:00.000Z", "behind": 0, "trouble": ""},
}
VISIT = {
    "happenedAt": "2026-11-20T09:14:03.000Z",
    "type": "mail_visit",
    "id": "tracker_visit_1",
    "label": "letter_1\x1b[2J",
    "linkedBy": ["mailReference", "orderId"],
}


def test_what_led_to_a_sale_is_told_with_the_ids_that_link_it() -> None:
    ids = {"mailReference": ["m-1\x1b"], "visitorId": ["v-1", "v-2", "v-3", "v-4", "v-5"]}
    told = {**NOTHING, "behind": [VISIT], "behindIds": ids, "behindCut": True}
    lines = list(trace_lines(told))
    assert lines[0] == "behind the sale"
    assert lines[1:3] == [
        "  mailReference  m-1\\u001b",
        "  visitorId      v-1, v-2, v-3 and 2 more",
    ]
    assert lines[3].split() == [
        *("2026-11-20", "09:14:03.000Z", "mail_visit", "tracker_visit_1"),
        *("letter_1\\u001b[2J", "by", "mailReference,", "orderId"),
    ]
    assert "and more" in lines[4]


def test_without_a_sale_nothing_is_said_of_one() -> None:
    assert "behind the sale" not in list(trace_lines(NOTHING))


def test_a_trace_tells_that_what_is_waited_for_is_paused() -> None:
    held = {"destination": "dub", "endpoint": "track/lead", "detail": "HTTP 401"}
    told = {**NOTHING, "paused": [{**held, "since": "2026-11-21T12:00:00Z"}]}
    expected = "dub track/lead IS PAUSED since 2026-11-21 12:00:00Z: HTTP 401"
    assert expected in list(trace_lines(told))
