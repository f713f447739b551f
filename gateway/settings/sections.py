"""The settings as a whole: each part's own type, which stands beside that part, gathered."""

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.adapters.destinations.file import FileSettings
from gateway.adapters.destinations.voyado import VoyadoSettings
from gateway.adapters.destinations.webhook import WebhookSettings
from gateway.adapters.kafka.settings import KafkaSettings
from gateway.adapters.postgrid.settings import PostgridSettings
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.http.admin import AdminSettings
from gateway.http.console import ConsoleSettings
from gateway.http.settings import HttpSettings
from gateway.ingest import SiteSettings
from gateway.model.window import DedupSettings

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""Of a site, destination or source: a metric's label, part of records and of variables' names."""

AnyDestination = VoyadoSettings | DubSettings | WebhookSettings | FileSettings
"""Every kind there is. Wiring matches over it: a kind without its destination is a type error."""

AnyBuffer = SqliteSettings | KafkaSettings
"""Every kind there is; without a kind it is the embedded log."""


class Settings(BaseModel):
    """One configuration file. Every part has a default, so an empty file is one too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: HttpSettings = HttpSettings()
    admin: AdminSettings = AdminSettings()
    console: ConsoleSettings = ConsoleSettings()
    buffer: Annotated[AnyBuffer, Field(discriminator="kind")] = SqliteSettings()
    dedup: DedupSettings = DedupSettings()
    sites: dict[Name, SiteSettings] = Field(default_factory=dict)
    destinations: dict[Name, Annotated[AnyDestination, Field(discriminator="kind")]] = Field(
        default_factory=dict
    )
    sources: dict[Name, PostgridSettings] = Field(default_factory=dict)

    @field_validator("buffer", mode="before")
    @classmethod
    def _embedded(cls, buffer: object) -> object:
        """Say which kind it is where the file does not."""
        return {"kind": "sqlite", **buffer} if isinstance(buffer, Mapping) else buffer


def known_names(place: tuple[str, ...], kind: object = None) -> frozenset[str]:
    """Return the names of what may stand in the table at `place`; none where people choose them.

    `kind` is what the table says that it is, where that decides.
    """
    annotation: Any = Settings
    for part in place:
        annotation = _below(annotation, part)
    models = list(_models(annotation))
    if len(models) > 1:
        models = [each for each in models if _is_of_kind(each, kind)]
    return frozenset(name for model in models for name in model.model_fields)


def _is_of_kind(model: type[BaseModel], kind: object) -> bool:
    field = model.model_fields["kind"]
    return (field.default if kind is None else kind) in get_args(field.annotation)


def _below(annotation: Any, part: str) -> Any:
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    for model in _models(annotation):
        if part in model.model_fields:
            return model.model_fields[part].annotation
    return None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, types.UnionType):
        for each in get_args(annotation):
            yield from _models(each)
    elif get_origin(annotation) is Annotated:
        yield from _models(get_args(annotation)[0])
