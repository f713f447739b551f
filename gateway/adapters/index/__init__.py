"""The ledger's index in SQLite: a file beside the buffer, a cache."""

from gateway.adapters.index.index import SqliteIndex

__all__ = ["SqliteIndex"]
