"""Has many dead letters replayed or dropped, a few at a time, and tells how far it is."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any

import click

from gateway.cli.console_client import ConsoleClient, ConsoleFailedError

DONE = frozenset({"replayed", "dropped", "already"})
AT_ONCE = 100
TRIES = 10
"""For one request, while the console can't do it just now."""
AGAIN_SECONDS = 2.0
LINE_SECONDS = 5.0
"""Between two lines of progress where there is no terminal."""

Json = dict[str, Any]


class Handling:
    """Some letters, and what is done about them; `rate` letters a second at most."""

    def __init__(
        self, client: ConsoleClient, deed: str, ids: Sequence[str], rate: float = float("inf")
    ) -> None:
        self._client = client
        self._deed = deed
        self._ids = ids
        self._rate = rate
        self._outcomes: Counter[str] = Counter()
        self._told_at = monotonic()

    @property
    def undone(self) -> int:
        """For how many letters it could not be done."""
        return sum(number for each, number in self._outcomes.items() if each not in DONE)

    def summary(self) -> str:
        """Say what came of it in a line."""
        if not self._ids:
            return "no dead letter is meant"
        parts = (f"{number} {_WORDS[each]}" for each, number in sorted(self._outcomes.items()))
        return ", ".join(parts)

    def run(self) -> Iterator[Json]:
        """Do it; yield what came of each letter, as it comes. Raises ConsoleFailedError."""
        size = max(1, min(AT_ONCE, int(self._rate / 2) if self._rate < AT_ONCE else AT_ONCE))
        for start in range(0, len(self._ids), size):
            began = monotonic()
            some = self._ids[start : start + size]
            for result in self._post(some):
                self._outcomes[result["outcome"]] += 1
                yield result
            self._tell(start + len(some))
            if start + size < len(self._ids):
                self._client.pause(max(0.0, len(some) / self._rate - (monotonic() - began)))

    def _post(self, ids: Sequence[str]) -> list[Json]:
        """Ask until it is done: to ask twice does it once."""
        for _ in range(TRIES - 1):
            try:
                return self._once(ids)
            except ConsoleFailedError as error:
                if not error.may_pass:
                    raise
                click.echo(f"{error} - Trying again.", err=True)
            self._client.pause(AGAIN_SECONDS)
        return self._once(ids)

    def _once(self, ids: Sequence[str]) -> list[Json]:
        results: list[Json] = self._client.post("dead-letters", self._deed, ids=ids)["results"]
        return results

    def _tell(self, number: int) -> None:
        """Tell how far it is: in place on a terminal, now and then a line elsewhere."""
        told = f"{self._deed}: {number} of {len(self._ids)}"
        last = number == len(self._ids)
        if sys.stderr.isatty():
            click.echo(f"\r{told}", nl=last, err=True)
        elif not last and monotonic() - self._told_at >= LINE_SECONDS:
            self._told_at = monotonic()
            click.echo(told, err=True)


_WORDS = {
    "replayed": "replayed",
    "dropped": "dropped",
    "already": "replayed or dropped before",
    "rejected": "rejected again",
    "not_found": "not found",
    "impossible": "can't be replayed",
}
