"""The records of the dead log."""

import pytest

from gateway.model.attempt import Tried
from gateway.model.dead import (
    DeadLetter,
    Decision,
    Deed,
    Handled,
    Subject,
    decode,
    decode_letter,
    encode,
)

LETTER = DeadLetter("dub", "shop", "refused", 5, 7, {"event": {}}, number=2, origin=3)
DECISION = Decision(Deed.REPLAYED, 9, (Handled("dub", 3, 2, 11), Handled("ingest", 4, 0)))


def test_letters_and_decisions_survive_the_log() -> None:
    tried = DeadLetter("dub", "shop", "refused", 5, 7, {}, tried=Tried.IN_DOUBT)
    for record in (LETTER, DECISION, tried):
        assert decode(encode(record)) == record
    assert decode_letter(encode(LETTER)) == LETTER


@pytest.mark.parametrize(
    "value", [b"", b"[]", b"7", b'{"deed": "eaten"}', b'{"deed": "dropped"}', b'{"site": "shop"}']
)
def test_what_is_neither_says_so(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(value)


def test_a_decision_is_no_letter() -> None:
    with pytest.raises(ValueError, match="a decision"):
        decode_letter(encode(DECISION))


def test_a_letter_is_about_the_first_record_and_how_often_it_was_buried() -> None:
    assert LETTER.subject(99) == DECISION.letters[0].subject == Subject("dub", 3, 2)
    assert DeadLetter("dub", "shop", "refused", 5, 7, {}).subject(99) == Subject("dub", 7, 1)
    rejected = DeadLetter("ingest", "shop", "bad_value", 5, None, {})
    assert rejected.subject(99) == Subject("ingest", 99, 0)
