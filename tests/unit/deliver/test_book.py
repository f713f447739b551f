"""The book holds what is open, and nothing else."""

from gateway.deliver.book import Book
from gateway.deliver.lanes import Entry
from gateway.model.attempt import Item
from tests.unit.deliver.world import cart


def entry(offset: int, reference: str) -> Entry:
    return Entry(
        offset, 0, cart(reference, offset), Item("carts", reference, repeatable=True, body={})
    )


def test_a_cart_whose_newest_state_has_its_outcome_is_forgotten() -> None:
    book = Book(0)
    for offset in range(1000):
        book.add(entry(offset, f"c{offset}"), f"c{offset}")
    for offset in range(1000):
        book.close(offset)
    assert not any(len(held) for held in vars(book).values() if isinstance(held, dict))


def test_the_newest_state_is_told_from_an_older_one_that_ends_later() -> None:
    book = Book(0)
    older, newer = entry(0, "c"), entry(1, "c")
    book.add(older, "c")
    assert book.older_state("c") is older
    book.add(newer, "c")
    book.close(0)
    assert book.older_state("c") is newer
    assert book.older_state("c") is None


def test_an_event_fails_alone_where_the_destination_took_another_and_failed_on_no_other() -> None:
    book = Book(0)
    first, second = entry(0, "a"), entry(1, "b")
    for each in (first, second):
        book.add(each, None)
    book.failed_whole([first])
    assert not book.fails_alone(first)  # a successor does not know
    book.went_through("carts", 5)
    assert book.fails_alone(first)
    book.failed_whole([first, second])
    assert not book.fails_alone(first)
    book.close(1)
    assert book.fails_alone(first)
    book.failed_whole([second])
    book.went_through("carts", 6)
    assert book.fails_alone(first)


def test_what_goes_through_of_another_kind_makes_no_event_fail_alone() -> None:
    book = Book(0)
    failing = entry(0, "a")
    failing.first_failed_ms = 1
    book.add(failing, None)
    book.failed_whole([failing])
    book.went_through("views", 5)
    assert (failing.alone_since_ms, book.fails_alone(failing)) == (None, False)
    book.went_through("carts", 6)
    assert (failing.alone_since_ms, book.fails_alone(failing)) == (6, True)
