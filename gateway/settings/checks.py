"""What only the whole configuration shows: each check takes all of it and yields problems."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.adapters.destinations.file import FileSettings
from gateway.adapters.destinations.voyado import VoyadoSettings
from gateway.adapters.kafka.settings import KafkaSettings
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.http.listen import address_of
from gateway.model.carts import CART_BYTES
from gateway.model.dead import INGEST
from gateway.model.window import WINDOW_KEY_BYTES
from gateway.settings.problems import Place, Problem
from gateway.settings.sections import Settings

EVENT_BYTES = 1_000
"""An event in the embedded log, outcomes at its destinations included: on the safe side."""
DAY_SECONDS = 86_400.0
HAND_OVER_SECONDS = 10.0
"""For what comes after the last answer: outcomes, the commit."""
LAST_RETRY_SECONDS = 28_800.0
"""PostGrid sends a webhook again after 1, 2 and 4 hours (postgrid.md, 4), and a little more."""
_GIB = 1 << 30


@dataclass(slots=True, frozen=True)
class Subject:
    """What is checked: the parts that are valid in themselves."""

    settings: Settings
    sound: frozenset[str]
    """Sections without problems; a broken one stands in `settings` with its defaults."""
    destination_names: frozenset[str]
    """All that the configuration names, broken ones too."""


def _error(place: Place, message: str, remedy: str) -> tuple[Place, Problem]:
    return place, Problem(".".join(place), message, remedy)


def _warning(place: Place, message: str, remedy: str) -> tuple[Place, Problem]:
    return place, Problem(".".join(place), message, remedy, severity="warning")


Found = Iterator[tuple[Place, Problem]]


def _unknown_destinations(subject: Subject) -> Found:
    for name, site in subject.settings.sites.items():
        for destination in site.destinations:
            if destination in subject.destination_names:
                continue
            known = ", ".join(sorted(subject.destination_names)) or "none yet"
            yield _error(
                ("sites", name, "destinations"),
                f'names "{destination}", which is no destination',
                f"add [destinations.{destination}], or use one of those there are: {known}",
            )
        for destination in _repeated(site.destinations):
            yield _error(
                ("sites", name, "destinations"),
                f'names "{destination}" twice',
                "name it once: each destination gets an event once",
            )


def _unused_destinations(subject: Subject) -> Found:
    used = {each for site in subject.settings.sites.values() for each in site.destinations}
    for name in subject.settings.destinations:
        if name not in used:
            yield _warning(
                ("destinations", name),
                "is used by no site, so it gets nothing",
                f'add "{name}" to the destinations of a site, or remove it',
            )


def _reserved_names(subject: Subject) -> Found:
    if INGEST in subject.destination_names:
        yield _error(
            ("destinations", INGEST),
            f'"{INGEST}" stands for events rejected there, among the dead letters',
            "give the destination another name",
        )


def _browser_keys(subject: Subject) -> Found:
    yield from _keys_of_two(subject, "browser_keys", lambda key: f'"{key}"', _browser_keys_of)


def _server_keys(subject: Subject) -> Found:
    yield from _keys_of_two(subject, "server_keys", lambda _: "a key", _server_keys_of)


def _public_secrets(subject: Subject) -> Found:
    public = {key for keys in _browser_keys_of(subject.settings).values() for key in keys}
    for site, keys in _server_keys_of(subject.settings).items():
        if public.intersection(keys):
            yield _error(
                ("sites", site, "server_keys"),
                "holds a key that is a browser key too, which everybody can read in the page",
                "make a new server key",
            )


def _browser_keys_of(settings: Settings) -> Mapping[str, tuple[str, ...]]:
    return {name: site.browser_keys for name, site in settings.sites.items()}


def _server_keys_of(settings: Settings) -> Mapping[str, tuple[str, ...]]:
    return {
        name: tuple(key.get_secret_value() for key in site.server_keys)
        for name, site in settings.sites.items()
    }


def _keys_of_two(
    subject: Subject,
    setting: str,
    show: Callable[[str], str],
    keys_of: Callable[[Settings], Mapping[str, tuple[str, ...]]],
) -> Found:
    owners: dict[str, list[str]] = defaultdict(list)
    for site, keys in keys_of(subject.settings).items():
        for key in keys:
            owners[key].append(site)
    for key, sites in owners.items():
        for site in sites[1:]:
            other = f"[sites.{sites[0]}] has too" if site != sites[0] else "stands there twice"
            yield _error(
                ("sites", site, setting),
                f"holds {show(key)} that {other}" if site != sites[0] else f"{show(key)} {other}",
                "a key belongs to one site, once: it says whose events they are",
            )


def _sites_without_keys(subject: Subject) -> Found:
    for name, site in subject.settings.sites.items():
        if not site.browser_keys and not site.server_keys:
            yield _warning(("sites", name), "has no key, so it takes no event", "set browser_keys")
        if site.browser_keys and not site.origins:
            yield _warning(
                ("sites", name, "origins"),
                "is empty, so no page may post with the browser key",
                'name the shop\'s own: origins = ["https://shop.example"]',
            )


def _sales_from_two_sides(subject: Subject) -> Found:
    for name, site in subject.settings.sites.items():
        if site.server_keys and site.browser_keys and "sale" in site.browser_events:
            yield _warning(
                ("sites", name, "browser_events"),
                "lets the browser key, which anybody can use, post sales beside the server's own",
                'leave "sale" out, or give both the same invoiceId and customerId',
            )


def _sources_without_sites(subject: Subject) -> Found:
    for name, source in subject.settings.sources.items():
        if source.site not in subject.settings.sites:
            known = ", ".join(sorted(subject.settings.sites)) or "none yet"
            yield _error(
                ("sources", name, "site"),
                f'names "{source.site}", which is no site',
                f"add [sites.{source.site}], or use one of those there are: {known}",
            )


def _silent_sources(subject: Subject) -> Found:
    for name, source in subject.settings.sources.items():
        if not source.webhook_secrets and not source.poll_seconds:
            yield _warning(
                ("sources", name),
                "neither takes webhooks nor polls, so nothing comes from it",
                "set webhook_secrets, or poll_seconds above 0",
            )


def _mail_for_nobody(subject: Subject) -> Found:
    settings = subject.settings
    for name, source in settings.sources.items():
        site = settings.sites.get(source.site)
        named = [settings.destinations.get(each) for each in site.destinations] if site else []
        if site and not any(each and "mail_visit" in each.events for each in named):
            yield _warning(
                ("sources", name, "site"),
                f'names "{source.site}", no destination of which takes mail events',
                "add a destination of kind webhook or file to that site",
            )


def _retries_too_old(subject: Subject) -> Found:
    for name, source in subject.settings.sources.items():
        if source.webhook_secrets and source.webhook_age_seconds < LAST_RETRY_SECONDS:
            yield _warning(
                ("sources", name, "webhook_age_seconds"),
                "may refuse PostGrid's retries, the last of which comes after 7 hours",
                f"set it to {LAST_RETRY_SECONDS:g} at least",
            )


def _listen_twice(subject: Subject) -> Found:
    settings = subject.settings
    ports: dict[int, str] = {}
    for name, listen in (
        ("http", settings.http.listen),
        ("admin", settings.admin.listen),
        ("console", settings.console.listen),
    ):
        port = address_of(listen).port
        if port and port in ports:
            yield _error((name, "listen"), f"has the port of {ports[port]}", "give it another one")
        ports.setdefault(port, f"[{ports.get(port, name)}]")


def _same_folders(subject: Subject) -> Found:
    taken: dict[str, str] = {}
    for name, destination in subject.settings.destinations.items():
        if not isinstance(destination, FileSettings):
            continue
        path = str(destination.path.absolute())
        if path in taken:
            yield _error(
                ("destinations", name, "path"),
                f"is the folder of {taken[path]} too",
                "give each destination a folder of its own",
            )
        taken.setdefault(path, f"[destinations.{name}]")


def _shared_keys(subject: Subject) -> Found:
    """Voyado and Dub count requests by the key (voyado.md 3, dub.md 2)."""
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    rates: dict[tuple[str, str], float] = defaultdict(float)
    for name, destination in subject.settings.destinations.items():
        if isinstance(destination, VoyadoSettings | DubSettings):
            key = (destination.base_url, destination.api_key.get_secret_value())
            owners[key].append(name)
            rates[key] += destination.rate_per_second
    for key, names in owners.items():
        usual = (
            type(subject.settings.destinations[names[0]]).model_fields["rate_per_second"].default
        )
        if len(names) > 1 and rates[key] > usual:
            yield _warning(
                ("destinations", names[1], "rate_per_second"),
                f"makes, with [destinations.{names[0]}], up to {rates[key]:g} requests a second by "
                "one key, whose limit is for all of them",
                f"lower each, to {usual:g} together (or what your plan allows), or use a key each",
            )


def _index_in_log(subject: Subject) -> Found:
    index, buffer = subject.settings.console.index_path, subject.settings.buffer
    if index is None or not isinstance(buffer, SqliteSettings):
        return
    if index.absolute() == buffer.path.absolute():
        yield _error(
            ("console", "index_path"),
            "is the file of the log (buffer.path)",
            "give the index a file of its own, or leave it out",
        )


def _window_in_log(subject: Subject) -> Found:
    window, retention = (
        subject.settings.dedup.window_seconds,
        subject.settings.buffer.retention_seconds,
    )
    if window > retention:
        yield _error(
            ("dedup", "window_seconds"),
            f"is {window:g}, longer than the log keeps records ({retention:g})",
            "make it at most buffer.retention_seconds: a duplicate is found in the log",
        )


def _retries_in_log(subject: Subject) -> Found:
    settings = subject.settings
    needed = needed_seconds(settings)
    if not settings.destinations or needed <= settings.buffer.retention_seconds:
        return
    place = ("buffer", "retention_seconds")
    wrong = (
        f"is {settings.buffer.retention_seconds:g}, shorter than the window, the longest "
        f"retry_for_seconds and a day ({needed:g})"
    )
    match settings.buffer:
        case KafkaSettings():
            yield _error(place, wrong, f"set at least {needed:g}: Kafka waits for no destination")
        case SqliteSettings():
            yield _warning(
                place,
                wrong,
                f"set at least {needed:g}; until then undelivered events stay longer than it says",
            )
        case _:
            assert_never(settings.buffer)


def _room(subject: Subject) -> Found:
    settings, buffer = subject.settings, subject.settings.buffer
    needed = needed_bytes(settings)
    if not settings.destinations or not isinstance(buffer, SqliteSettings):
        return
    if needed > buffer.max_bytes:
        yield _warning(
            ("buffer", "max_bytes"),
            f"is {_gib(buffer.max_bytes)}: too little for the longest retry_for_seconds "
            "at the traffic that the window is made for",
            f"set at least {needed}, or lower retry_for_seconds; when full, events get 503",
        )


def _requests_at_the_end(subject: Subject) -> Found:
    stop = subject.settings.admin.stop_seconds
    for name, destination in subject.settings.destinations.items():
        if destination.timeout_seconds > stop:
            yield _warning(
                ("destinations", name, "timeout_seconds"),
                f"is {destination.timeout_seconds:g}, more than admin.stop_seconds ({stop:g}): "
                "a request in flight when the process ends may be cut off, and be in doubt",
                f"set at most {stop:g}, or raise admin.stop_seconds (and the pod's grace period)",
            )


def _repeated(values: Iterable[str]) -> list[str]:
    return [value for value, number in Counter(values).items() if number > 1]


_CHECKS: tuple[tuple[Callable[[Subject], Found], frozenset[str]], ...] = (
    (_unknown_destinations, frozenset()),
    (_unused_destinations, frozenset({"sites"})),
    (_reserved_names, frozenset()),
    (_browser_keys, frozenset()),
    (_server_keys, frozenset()),
    (_public_secrets, frozenset()),
    (_sites_without_keys, frozenset()),
    (_sales_from_two_sides, frozenset()),
    (_sources_without_sites, frozenset({"sites"})),
    (_silent_sources, frozenset()),
    (_mail_for_nobody, frozenset({"sites", "destinations"})),
    (_retries_too_old, frozenset()),
    (_listen_twice, frozenset({"http", "admin", "console"})),
    (_same_folders, frozenset()),
    (_shared_keys, frozenset()),
    (_index_in_log, frozenset({"buffer", "console"})),
    (_window_in_log, frozenset({"buffer", "dedup"})),
    (_retries_in_log, frozenset({"buffer", "dedup", "destinations"})),
    (_requests_at_the_end, frozenset({"admin", "destinations"})),
    (_room, frozenset({"buffer", "dedup", "destinations"})),
)
"""Each check, and the sections that must be sound for it to mean anything."""


def problems_of(subject: Subject) -> list[tuple[Place, Problem]]:
    """Run every check that the sound sections allow."""
    return [found for check, needs in _CHECKS if needs <= subject.sound for found in check(subject)]


def needed_seconds(settings: Settings) -> float:
    """How long records must stay: window, longest retry, and a day to mend things."""
    longest = max((each.retry_for_seconds for each in settings.destinations.values()), default=0.0)
    return settings.dedup.window_seconds + longest + DAY_SECONDS


def hand_over_seconds(settings: Settings) -> float:
    """How long a destination's replica may take to hand a partition over (rule 4)."""
    longest = max((each.timeout_seconds for each in settings.destinations.values()), default=0.0)
    return longest + HAND_OVER_SECONDS


def needed_bytes(settings: Settings) -> int:
    """Return what `max_bytes` must be for a destination that is down while events wait for it.

    The traffic is that which the window is made for: `window_records` in `window_seconds`.
    """
    return int(_events_per_second(settings) * _held_seconds(settings) * EVENT_BYTES)


def _held_seconds(settings: Settings) -> float:
    return needed_seconds(settings) - DAY_SECONDS


def _events_per_second(settings: Settings) -> float:
    return settings.dedup.window_records / settings.dedup.window_seconds


def facts(settings: Settings) -> list[str]:
    """Say what follows from valid settings, for people: one line each."""
    return [*_site_facts(settings), *_window_facts(settings), *_room_facts(settings)]


def _site_facts(settings: Settings) -> Iterator[str]:
    if not settings.sites:
        yield "no sites: every event is refused; add [sites.NAME] with browser_keys and origins"
    for name, site in settings.sites.items():
        to = ", ".join(site.destinations) or "no destination"
        yield (
            f"site {name}: {len(site.browser_keys)} browser and {len(site.server_keys)} server "
            f"key(s), {len(site.origins)} origin(s), to {to}"
        )


def _window_facts(settings: Settings) -> Iterator[str]:
    dedup = settings.dedup
    memory = [window_bytes(settings, name) for name in settings.destinations]
    yield (
        f"window: {dedup.window_seconds:g} s or {dedup.window_records} records, whichever is less: "
        f"the time counts up to {_events_per_second(settings):.3g} events/s"
    )
    yield (
        f"window memory: at worst {_mib(max(memory, default=0))} for one destination, "
        f"{_mib(sum(memory))} for all {len(memory)} in one process "
        f"({WINDOW_KEY_BYTES} bytes a record, {CART_BYTES} more a cart where carts are taken)"
    )


def window_bytes(settings: Settings, destination: str) -> int:
    """Return what a destination's window takes, were every record of it a cart of its own."""
    takes_carts = "cart" in settings.destinations[destination].events
    each = WINDOW_KEY_BYTES + (CART_BYTES if takes_carts else 0)
    return settings.dedup.window_records * each


def _room_facts(settings: Settings) -> Iterator[str]:
    if not settings.destinations or not isinstance(settings.buffer, SqliteSettings):
        return
    held, room = _held_seconds(settings), settings.buffer.max_bytes
    yield (
        f"room: at {_events_per_second(settings):.3g} events/s a destination that is down for its "
        f"retry_for_seconds needs max_bytes of {_gib(needed_bytes(settings))}; {_gib(room)} "
        f"last up to {room / EVENT_BYTES / held:.3g} events/s"
    )


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"
