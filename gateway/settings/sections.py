"""The settings as a whole: each part's own type, which stands beside that part, gathered."""

import types
from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gateway.adapters.destinations.dub import DubSettings
from gateway.adapters.destinations.file import FileSettings
from gateway.adapters.destinations.voyado import VoyadoSettings
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.http.admin import AdminSettings
from gateway.http.console import ConsoleSettings
from gateway.http.settings import HttpSettings
from gateway.ingest import SiteSettings
from gateway.model.window import DedupSettings

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
"""Of a site or a destination: it is a metric's label, part of a log's records, and of variables."""

AnyDestination = VoyadoSettings | DubSettings | FileSettings
"""Every kind there is. Wiring matches over it: a kind without its destination is a type error."""


class Settings(BaseModel):
    """One configuration file. Every part has a default, so an empty file is one too."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    http: HttpSettings = HttpSettings()
    admin: AdminSettings = AdminSettings()
    console: ConsoleSettings = ConsoleSettings()
    buffer: SqliteSettings = SqliteSettings()
    dedup: DedupSettings = DedupSettings()
    sites: dict[Name, SiteSettings] = Field(default_factory=dict)
    destinations: dict[Name, Annotated[AnyDestination, Field(discriminator="kind")]] = Field(
        default_factory=dict
    )


def known_names(place: tuple[str, ...], kind: object = None) -> Iterable[str]:
    """Return the names of what may stand in the table at `place`; none where people choose them.

    `kind` is what the table says that it is, where that decides.
    """
    found: list[type[BaseModel]] = [Settings]
    for part in place:
        found = _below(found, part)
    if len(found) > 1:
        found = [
            model for model in found if kind in get_args(model.model_fields["kind"].annotation)
        ]
    return {name for model in found for name in model.model_fields}


def _below(models: list[type[BaseModel]], part: str) -> list[type[BaseModel]]:
    annotations = [
        model.model_fields[part].annotation if part in model.model_fields else None
        for model in models
    ]
    return [model for annotation in annotations for model in _models(annotation)]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, types.UnionType) or get_origin(annotation) is Annotated:
        return [model for each in get_args(annotation) for model in _models(each)]
    return []
