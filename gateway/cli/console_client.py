"""Asks the console's API. A failure is one line that says what to do."""

import threading
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
)

import orjson

ANSWER_SECONDS = 60.0
ANSWER_BYTES = 256 << 20
_WRONG = 400
_UNAUTHORIZED = 401
_UNAVAILABLE = 503


class ConsoleFailedError(Exception):
    """The console gave no answer, or refused. `may_pass`: the same question may work later."""

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class WrongQuestionError(ConsoleFailedError):
    """What was asked for, or where, makes no sense; says what would be right."""


class ConsoleClient:
    """A console at an address. Raises ConsoleFailedError."""

    def __init__(self, address: str, token: str | None = None) -> None:
        if not _is_address(address):
            raise WrongQuestionError(f"{address!r} is no address: write http://127.0.0.1:8090")
        self._address = address.rstrip("/")
        self._token = token
        # No proxy and no redirect: token and answer go between here and the console only.
        self._opener = OpenerDirector()
        for handler in (HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor):
            self._opener.add_handler(handler())

    def get(self, *path: str, **params: str | float | None) -> dict[str, Any]:
        """Return the answer to a question."""
        query = urlencode({name: value for name, value in params.items() if value is not None})
        return self._ask(self._request(path, query))

    def post(self, *path: str, **body: object) -> dict[str, Any]:
        """Have something done; return what came of it."""
        request = self._request(path)
        request.data = orjson.dumps(body)
        request.add_header("Content-Type", "application/json")
        return self._ask(request)

    def _request(self, path: tuple[str, ...], query: str = "") -> Request:
        where = "/".join(quote(part, safe="") for part in path)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return Request(f"{self._address}/api/{where}?{query}", headers=headers)  # noqa: S310

    def _ask(self, request: Request) -> dict[str, Any]:
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS) as answer:
                told: dict[str, Any] = orjson.loads(answer.read(ANSWER_BYTES))
        except HTTPError as error:
            with error:
                raise self._refused(error) from None
        except (URLError, OSError, HTTPException) as error:
            why = getattr(error, "reason", error)
            raise ConsoleFailedError(
                f"no console answers at {self._address} ({why}): is `gateway run` running?",
                may_pass=True,
            ) from None
        except ValueError:
            raise ConsoleFailedError(f"what answers at {self._address} is no console") from None
        return told

    def pause(self, seconds: float) -> None:
        """Wait before asking again; Ctrl-C ends it."""
        threading.Event().wait(seconds)

    def _refused(self, error: HTTPError) -> ConsoleFailedError:
        if error.code == _UNAUTHORIZED:
            return ConsoleFailedError("this console wants its token: give --token")
        try:
            message = str(orjson.loads(error.read(1 << 16))["message"])
        except (ValueError, KeyError, TypeError, OSError):
            message = f"{self._address} answers {error.code}; is that the console?"
        if error.code == _WRONG:
            return WrongQuestionError(message)
        return ConsoleFailedError(message, may_pass=error.code == _UNAVAILABLE)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
