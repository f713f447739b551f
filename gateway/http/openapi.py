"""The API's description, OpenAPI 3.1: made from the models that check the events."""

from typing import Any

import orjson
from pydantic.json_schema import GenerateJsonSchema

from gateway import __version__
from gateway.http.answers import ANSWERS, Trouble
from gateway.http.collector import SCRIPTS, hashed
from gateway.ingest import Problem
from gateway.model.event import CONTEXT, EVENT, METADATA_CHARACTERS
from gateway.model.outcome import Rejection
from gateway.model.posted import MOST_EVENTS

_REF = "#/components/schemas/{model}"
_EVENT_ERRORS = (
    Problem.NOT_A_REQUEST,
    Trouble.BAD_REQUEST,
    Problem.UNKNOWN_KEY,
    Problem.ORIGIN_NOT_ALLOWED,
    Trouble.BODY_STALLED,
    Trouble.TOO_LARGE,
    Problem.TOO_MANY_EVENTS,
    Trouble.UNSUPPORTED_TYPE,
    Trouble.UNSUPPORTED_ENCODING,
    Trouble.RATE_LIMITED,
    Trouble.HEADERS_TOO_LARGE,
    Trouble.FAILED,
    Problem.UNAVAILABLE,
    Trouble.BUSY,
)
_PIXEL_ERRORS = (
    Problem.UNKNOWN_KEY,
    Problem.ORIGIN_NOT_ALLOWED,
    Trouble.RATE_LIMITED,
    Trouble.HEADERS_TOO_LARGE,
    Trouble.FAILED,
    Problem.UNAVAILABLE,
    Trouble.BUSY,
)

_HOOK_ERRORS = (
    Trouble.BAD_REQUEST,
    Trouble.WRONG_SIGNATURE,
    Trouble.STALE_SIGNATURE,
    Trouble.NOT_FOUND,
    Trouble.BODY_STALLED,
    Trouble.TOO_LARGE,
    Trouble.UNSUPPORTED_ENCODING,
    Trouble.HEADERS_TOO_LARGE,
    Trouble.FAILED,
    Problem.UNAVAILABLE,
    Trouble.BUSY,
)


def document() -> bytes:
    """Return the description as JSON."""
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Gateway",
                "version": __version__,
                "description": "A first-party event gateway. A 2xx means that the events are"
                " durable. Every error says in plain words what to do next.",
            },
            "paths": {
                "/v1/events": {"post": _events(), "options": _preflight()},
                "/v1/pixel.gif": {"get": _pixel()},
                **_collectors(),
                "/v1/hooks/postgrid/{source}": {"post": _hook()},
                "/openapi.json": {
                    "get": {
                        "summary": "This description",
                        "responses": {"200": _content("application/json", {"type": "object"})}
                        | _errors((Trouble.HEADERS_TOO_LARGE,)),
                    }
                },
            },
            "components": {
                "schemas": _schemas(),
                "securitySchemes": {"serverKey": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _schemas() -> dict[str, Any]:
    _, definitions = GenerateJsonSchema(by_alias=True, ref_template=_REF).generate_definitions(
        [("Event", "validation", EVENT.core_schema), ("Context", "validation", CONTEXT.core_schema)]
    )
    schemas: dict[str, Any] = {str(name): each for name, each in definitions.items()}
    event = EVENT.json_schema(ref_template=_REF)
    event.pop("$defs")
    schemas["Event"] = event
    for each in definitions.values():
        metadata = each["properties"].get("metadata")
        if metadata is not None:
            metadata["description"] = (
                f"At most {METADATA_CHARACTERS} characters as compact JSON; the whole request"
                " nests 16 levels at most."
            )
    return schemas | {"Request": _request(), "Results": _results(), "Error": _error()}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _request() -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["events"],
        "properties": {
            "key": {
                "type": ["string", "null"],
                "description": "The site's browser key; not needed with a server key.",
            },
            "sentAt": {"type": ["string", "null"], "format": "date-time"},
            "context": {"anyOf": [_ref("Context"), {"type": "null"}]},
            "events": {
                "type": "array",
                "minItems": 1,
                "maxItems": MOST_EVENTS,
                "items": _ref("Event"),
            },
        },
    }


def _results() -> dict[str, Any]:
    result = {
        "type": "object",
        "required": ["index", "outcome"],
        "additionalProperties": False,
        "properties": {
            "index": {"type": "integer", "minimum": 0},
            "id": {"type": "string"},
            "outcome": {"enum": ["accepted", "duplicate", "rejected"]},
            "reason": {"enum": [*Rejection]},
            "field": {"type": "string"},
            "message": {"type": "string"},
        },
    }
    return {
        "type": "object",
        "required": ["results"],
        "properties": {"results": {"type": "array", "items": result}},
    }


def _error() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["error", "message"],
        "properties": {
            "error": {"enum": [str(each) for each in ANSWERS]},
            "message": {"type": "string", "description": "What to do next."},
        },
    }


def _content(kind: str, schema: dict[str, Any], description: str = "Here it is") -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _errors(problems: tuple[Problem | Trouble, ...]) -> dict[str, Any]:
    """Return the responses by status; where two problems share one, both are told."""
    responses: dict[str, Any] = {}
    for problem in problems:
        answer = ANSWERS[problem]
        words = f"`{problem}`: {answer.message}"
        known = responses.get(str(answer.status))
        if known is not None:
            known["description"] += f" {words}"
            continue
        response = _content("application/json", _ref("Error"), words)
        if answer.retry_after_seconds is not None:
            response["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
        responses[str(answer.status)] = response
    return responses


def _text(name: str, place: str, *, required: bool = True) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": {"type": "string"}}


def _events() -> dict[str, Any]:
    body = {"schema": _ref("Request")}
    results = _ref("Results")
    return {
        "summary": "Post events",
        "description": "text/plain is JSON too; it needs no preflight. Content-Encoding may be"
        " gzip or deflate. A body may have 1 MiB, also after inflation.",
        "security": [{}, {"serverKey": []}],
        "requestBody": {
            "required": True,
            "content": {"text/plain": body, "application/json": body},
        },
        "responses": {
            "204": {"description": "Every event is accepted, or a duplicate"},
            "200": _content(
                "application/json", results, "Some events were rejected, or a server key was used"
            ),
            "422": _content("application/json", results, "Every event was rejected"),
        }
        | _errors(_EVENT_ERRORS),
    }


def _preflight() -> dict[str, Any]:
    return {
        "summary": "May a page of this origin post JSON?",
        "responses": {"204": {"description": "Yes"}}
        | _errors((Problem.ORIGIN_NOT_ALLOWED, Trouble.HEADERS_TOO_LARGE)),
    }


def _pixel() -> dict[str, Any]:
    return {
        "summary": "A page event without JavaScript, with limited consent",
        "parameters": [
            _text("key", "query"),
            _text("url", "query", required=False),
            _text("title", "query", required=False),
        ],
        "responses": {
            "200": _content("image/gif", {"type": "string"}, "One transparent pixel"),
            "422": _content(
                "image/gif",
                {"type": "string"},
                "The pixel too, but the event is rejected; the header Gateway-Rejection says why",
            ),
        }
        | _errors(_PIXEL_ERRORS),
    }


def _collectors() -> dict[str, Any]:
    plain = {f"/{name}": {"get": _collector([])} for name in SCRIPTS}
    immutable = {"get": _collector([_text("hash", "path")])}
    return plain | {f"/{hashed(name, '{hash}')}": immutable for name in SCRIPTS}


def _hook() -> dict[str, Any]:
    return {
        "summary": "A webhook of PostGrid's",
        "description": "Signed with one of the source's webhook_secrets: as a JSON Web Token, which"
        " is the whole body, or as JSON with the header PostGrid-Signature. 200 means that what it"
        " brings is durable, or that there is nothing new in it; anything else may be sent again.",
        "parameters": [
            _text("source", "path"),
            _text("PostGrid-Signature", "header", required=False),
        ],
        "requestBody": {
            "required": True,
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        "responses": {
            "200": _content("application/json", {"type": "object"}, "Need not be sent again")
        }
        | _errors(_HOOK_ERRORS),
    }


def _collector(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "summary": "The collector, as a script (.js) or as an ES module (.mjs)",
        "parameters": parameters,
        "responses": {
            "200": _content("text/javascript", {"type": "string"}, "The script"),
            "304": {"description": "Not changed"},
        }
        | _errors((Trouble.NO_COLLECTOR, Trouble.HEADERS_TOO_LARGE)),
    }
