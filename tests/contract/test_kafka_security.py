"""Certificates and passwords, on a broker that wants both."""

import gc
import ipaddress
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from gateway.adapters.clock import SystemClock
from gateway.adapters.kafka import KafkaBuffer, KafkaSettings
from gateway.ports import BufferUnavailableError, BufferUnusableError, Draft, Log
from tests.brokers import TEST_SECONDS, Broker, Security

pytestmark = [
    pytest.mark.timeout(TEST_SECONDS),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

USER, PASSWORD = "gateway", "open-sesame-471"
MODULES = "org.apache.kafka.common.security"


class Authority:
    """Makes certificates for the loopback address, valid for an hour."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self.file = folder / "ca.pem"
        certificate = self._signed(self._name, self._key.public_key(), is_authority=True)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> Path:
        """Return the file of a new key and its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key.public_key(), is_authority=False)
        path = self._folder / f"{name}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool
    ) -> x509.Certificate:
        now = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC)
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secured(
    needs: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[KafkaSettings]:
    """Settings that are let in."""
    scram = f"{MODULES}.scram.ScramLoginModule required;"
    security = Security(
        "SASL_SSL",
        {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(authority.issue("broker")),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(authority.file),
            "ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "plain.sasl.jaas.config": f"{MODULES}.plain.PlainLoginModule required"
            f' user_{USER}="{PASSWORD}";',
            "scram-sha-256.sasl.jaas.config": scram,
            "scram-sha-512.sasl.jaas.config": scram,
        },
        [f"SCRAM-SHA-{n}=[name={USER},password={PASSWORD}]" for n in (256, 512)],
    )
    broker = Broker(tmp_path_factory.mktemp("secure"), needs, security)
    broker.start()
    client = authority.issue("client")
    right = KafkaSettings(
        kind="kafka",
        servers=(f"127.0.0.1:{broker.secure_port}",),
        partitions=1,
        single_node=True,
        tls=True,
        ca_file=authority.file,
        cert_file=client,
        key_file=client,
        sasl_mechanism="PLAIN",
        sasl_username=USER,
        sasl_password=SecretStr(PASSWORD),
        answer_seconds=5,
    )
    yield right
    broker.stop()


@pytest.fixture(autouse=True)
def _handshakes_that_fail_leave_nothing_to_later_tests() -> Iterator[None]:
    """Python 3.11's asyncio forgets to close a transport whose handshake is cut short."""
    yield
    gc.collect()


def make(settings: KafkaSettings) -> KafkaBuffer:
    return KafkaBuffer(settings, keep_seconds=3600, hand_over_seconds=5)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_who_shows_what_is_wanted_is_let_in(secured: KafkaSettings, mechanism: str) -> None:
    buffer = make(secured.model_copy(update={"sasl_mechanism": mechanism}))
    await buffer.start()
    [offset] = await buffer.publish(Log.EVENTS, [Draft(0, b"a")])
    [record] = await buffer.read(Log.EVENTS, 0, offset, 1)
    assert record.value == b"a"
    await buffer.stop()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sasl_password": SecretStr("wrong-password-9")}, "Invalid username or password"),
        ({"ca_file": None}, "certificate verify failed"),
    ],
)
async def test_who_does_not_is_told_why_without_the_password(
    secured: KafkaSettings,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, object],
    words: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(BufferUnavailableError) as error:
        await make(secured.model_copy(update=changes)).start()
    assert words in str(error.value)
    for secret in (PASSWORD, "wrong-password-9"):
        assert secret not in caplog.text
        assert secret not in str(error.value)


async def test_without_a_certificate_of_its_own_nobody_is_let_in(secured: KafkaSettings) -> None:
    with pytest.raises(BufferUnavailableError):
        await make(secured.model_copy(update={"cert_file": None, "key_file": None})).start()


async def test_certificates_that_cannot_be_read_are_named(secured: KafkaSettings) -> None:
    with pytest.raises(BufferUnusableError, match=r"nowhere\.pem"):
        await make(secured.model_copy(update={"ca_file": Path("nowhere.pem")})).start()
