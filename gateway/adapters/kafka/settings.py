"""What Kafka can be set to."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator

Server = Annotated[str, StringConstraints(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):\d{1,5}$")]
Seconds = Annotated[float, Field(gt=0, le=600)]


class KafkaSettings(BaseModel):
    """Kafka: where it is, how to be let in, and what the topics are to be like."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["kafka"]
    servers: tuple[Server, ...] = ("127.0.0.1:9092",)
    """Some of the brokers, from which the others are learnt."""
    topic_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "gateway."
    """Of the topics, and of the consumer groups, one for each destination."""
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 12
    single_node: bool = False
    """One broker, for trying things out: what it loses is lost."""
    replication_factor: Annotated[int, Field(ge=2, le=100)] = 3
    retention_seconds: Annotated[float, Field(gt=0, le=315_360_000)] = 604_800.0
    tls: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    publish_seconds: Seconds = 10.0
    """How long a publish may take before it is answered with 503."""
    answer_seconds: Seconds = 10.0
    """How long anything else may take."""
    session_seconds: Annotated[float, Field(ge=1, le=600)] = 10.0
    """A replica that is silent for so long loses its partitions to the others."""

    @property
    def replicas(self) -> int:
        """How many brokers are to hold each partition."""
        return 1 if self.single_node else self.replication_factor

    @model_validator(mode="after")
    def _whole(self) -> "KafkaSettings":
        if not self.servers:
            raise ValueError('servers names no broker: servers = ["kafka:9092"]')
        if not self.tls and (self.ca_file or self.cert_file or self.key_file):
            raise ValueError("ca_file, cert_file and key_file need tls = true")
        if self.key_file and not self.cert_file:
            raise ValueError("key_file needs the certificate's cert_file")
        given = [self.sasl_mechanism, self.sasl_username, self.sasl_password]
        if any(given) and not all(given):
            raise ValueError("sasl_mechanism, sasl_username and sasl_password go together")
        return self
