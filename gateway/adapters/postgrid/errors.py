"""What a call of PostGrid's API can end with instead of an answer.

PostGridError
  UnreachableError         no connection: certainly not carried out
  InDoubtError             no answer came, or 504: perhaps carried out
  UnreadableAnswerError    a success that makes no sense: perhaps this is not PostGrid
  RefusedError             an error answer, with PostGrid's own type and message
    InvalidRequestError    400, 422 with `validation_error`, and what no other type says
    KeyRefusedError        401, 403: the key is wrong, or lacks a permission
    NoSuchThingError       404
    NotPossibleError       422: not in this state, as cancelling what is printed
    TooManyRequestsError   429, after all tries
    UnavailableError       5xx, after all tries

Of these, UnreachableError, TooManyRequestsError and UnavailableError may pass by themselves.
"""

from http import HTTPStatus

_VALIDATION = "validation_error"


class PostGridError(Exception):
    """The root. Its text is one line for people, and never holds the key."""

    may_pass = False
    """Whether the same call may succeed later with nothing changed."""


class UnreachableError(PostGridError):
    """No connection was made."""

    may_pass = True


class InDoubtError(PostGridError):
    """The call may have been carried out, and repeating it could do it twice."""


class UnreadableAnswerError(PostGridError):
    """The status says success, but the body is not what the documents say."""


class RefusedError(PostGridError):
    """An error answer."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(f"PostGrid answers {f'{status} {kind}'.rstrip()}: {message}")
        self.status = status
        self.kind = kind
        """PostGrid's `error.type`; empty when the answer has none."""
        self.message = message
        """PostGrid's `error.message`: hostile where it is displayed."""


class InvalidRequestError(RefusedError):
    """A parameter is wrong."""


class KeyRefusedError(RefusedError):
    """The key is missing, wrong, or not allowed to do this."""


class NoSuchThingError(RefusedError):
    """There is nothing under that id, or not in this key's mode."""


class NotPossibleError(RefusedError):
    """Not possible now, in the state that the thing is in."""


class TooManyRequestsError(RefusedError):
    """Too many requests; `after_seconds` is what `Retry-After` asked for, if anything."""

    may_pass = True

    def __init__(self, status: int, kind: str, message: str, after_seconds: float | None) -> None:
        super().__init__(status, kind, message)
        self.after_seconds = after_seconds


class UnavailableError(RefusedError):
    """PostGrid has trouble; `after_seconds` as above."""

    may_pass = True

    def __init__(self, status: int, kind: str, message: str, after_seconds: float | None) -> None:
        super().__init__(status, kind, message)
        self.after_seconds = after_seconds


_BY_STATUS: dict[int, type[RefusedError]] = {
    HTTPStatus.UNAUTHORIZED: KeyRefusedError,
    HTTPStatus.FORBIDDEN: KeyRefusedError,
    HTTPStatus.NOT_FOUND: NoSuchThingError,
    HTTPStatus.UNPROCESSABLE_ENTITY: NotPossibleError,
}


def refusal(
    status: int, kind: str, message: str, after_seconds: float | None = None
) -> RefusedError:
    """Return the error that an answer stands for."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return TooManyRequestsError(status, kind, message, after_seconds)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return UnavailableError(status, kind, message, after_seconds)
    if kind == _VALIDATION:
        return InvalidRequestError(status, kind, message)
    return _BY_STATUS.get(status, InvalidRequestError)(status, kind, message)
