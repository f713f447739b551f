"""The embedded log: a durable buffer in one SQLite file."""

from gateway.adapters.sqlite.buffer import SqliteBuffer
from gateway.adapters.sqlite.settings import SqliteSettings

__all__ = ["SqliteBuffer", "SqliteSettings"]
