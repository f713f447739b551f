"""PostGrid's names of fields: camelCase in which `URL`, `ID`, `ZIP` and `HTML` stay capitals."""

_CAPITALS = {"url", "id", "zip", "html"}


def wire_name(name: str) -> str:
    """Return the wire's name: `redirect_url_template` is `redirectURLTemplate`."""
    first, *rest = name.removesuffix("_").split("_")
    words = (word.upper() if word in _CAPITALS else word.capitalize() for word in rest)
    return first + "".join(words)
