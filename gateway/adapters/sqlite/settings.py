"""What the embedded log can be set to."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MIB = 1 << 20


class SqliteSettings(BaseModel):
    """The embedded log: one file, one process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["sqlite"] = "sqlite"
    path: Path = Path("data/buffer.db")
    max_bytes: Annotated[int, Field(ge=MIB, le=1 << 46)] = 20 * 1024 * MIB
    """Events are refused beyond it; what delivery writes may take a quarter more (`reserve`)."""
    retention_seconds: Annotated[float, Field(gt=0, le=315_360_000)] = 604_800.0

    @property
    def reserve_bytes(self) -> int:
        """Room beyond `max_bytes` for outcomes, dead letters and state.

        A full log is emptied by delivery, which writes outcomes before it frees anything: about
        100 bytes an event and destination, against some 400 for the event.
        """
        return self.max_bytes // 4
