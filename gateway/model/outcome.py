"""What becomes of an event: closed sets, because metrics and people count by them."""

from enum import StrEnum


class Outcome(StrEnum):
    """An event's fate at one destination; it has exactly one."""

    DELIVERED = "delivered"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    SKIPPED = "skipped"
    UNATTRIBUTED = "unattributed"
    DEAD = "dead"


class Reason(StrEnum):
    """Why an outcome, or why an attempt is made again."""

    # duplicate
    REPEATED = "repeated"  # an earlier record in the window has the same dedup key
    DIFFERS = "differs"  # the same invoice with another amount or currency
    ALREADY_KNOWN = "already_known"  # the destination says that it has it
    # superseded
    NEWER_CART = "newer_cart"  # a newer state of the cart has been read
    # skipped
    NO_CONTACT = "no_contact"
    NO_LANGUAGE = "no_language"
    NO_CONSENT = "no_consent"
    NO_CUSTOMER = "no_customer"
    NO_CLICK = "no_click"
    NOTHING_TO_SEND = "nothing_to_send"
    AMOUNT_ZERO = "amount_zero"
    TOO_OLD = "too_old"
    # unattributed
    UNKNOWN_CUSTOMER = "unknown_customer"
    # dead
    UNKNOWN = "unknown"  # may have been carried out, and must not be repeated
    EXPIRED = "expired"  # `retry_for_seconds` after the log took it
    FAILED_ALONE = "failed_alone"  # others went through, this one did not
    REFUSED = "refused"  # the destination says that it is wrong
    UNKNOWN_CLICK = "unknown_click"
    UNREADABLE = "unreadable"  # the record is no envelope
    # delivered, with a remark
    UNCONFIRMED = "unconfirmed"
    # attempted again
    UNREACHABLE = "unreachable"  # never sent: no connection
    NO_ANSWER = "no_answer"  # sent, nothing came back: in doubt
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"  # an error answer of the destination's own
    UNAUTHORIZED = "unauthorized"  # 401, 403, or the path's own 404: looks like a wrong setting
    SPLIT = "split"  # a batch was refused; its halves are tried


class Rejection(StrEnum):
    """Why ingest refuses an event."""

    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_TYPE = "unknown_type"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    OVER_LIMIT = "over_limit"
    BAD_VALUE = "bad_value"
    TIME_WITHOUT_ZONE = "time_without_zone"
    TOO_OLD = "too_old"
    IN_FUTURE = "in_future"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    TYPE_NOT_ALLOWED = "type_not_allowed"
    SERVER_KEY_ONLY = "server_key_only"
    NO_IDENTITY = "no_identity"
    CONSENT_NONE = "consent_none"
