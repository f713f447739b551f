"""Three browser engines, each driven through its WebDriver end: Chromium, Firefox, WebKitGTK.

Chromium and WebKit come with a driver that speaks WebDriver over HTTP. Firefox has it built in:
its remote end Marionette takes the same commands over a socket, so that no geckodriver is needed.

An engine starts on a profile folder, is killed with its whole process tree as a power cut would,
and starts again on the same folder. WebKit's automated sessions keep nothing on disk: what is to
outlive a kill there runs in `MiniBrowser` without a driver (`Unattended`).
"""

import asyncio
import json
import os
import signal
from abc import ABC, abstractmethod
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout

from tests.gateways import eventually, free_port

Needs = Callable[[str], str]
"""From a program's name to its path; skips the test, or fails it under CI, where it is missing."""

START_SECONDS = 60
COMMAND_SECONDS = 60
CHROMIUM_FLAGS = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
    "disable-background-networking", "disable-component-update", "window-size=1280,800",
    # A tab that the test does not look at runs as fast as any other.
    "disable-background-timer-throttling", "disable-renderer-backgrounding",
    "disable-backgrounding-occluded-windows",
)  # fmt: skip
FIREFOX_PREFERENCES: Mapping[str, Any] = {
    "marionette.port": 0,
    "app.normandy.enabled": False,
    "browser.sessionstore.resume_from_crash": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.min_background_timeout_value": 4,
    "dom.timeout.enable_budget_timer_throttling": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.disable-localhost-when-offline": True,
    "privacy.globalprivacycontrol.functionality.enabled": True,
    "toolkit.startup.max_resumed_crashes": -1,
    "toolkit.telemetry.reportingpolicy.firstRun": False,
}


class EngineError(Exception):
    """A command that the engine refused; says which and why."""


class Wire(ABC):
    """The way commands reach an engine."""

    @abstractmethod
    async def command(self, name: str, parameters: Mapping[str, Any]) -> Any:
        """Carry out one of `_OVER_HTTP`; raises EngineError."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of it; the engine stays."""


_OVER_HTTP = {
    "WebDriver:Navigate": ("POST", "/url"),
    "WebDriver:Back": ("POST", "/back"),
    "WebDriver:ExecuteScript": ("POST", "/execute/sync"),
    "WebDriver:ExecuteAsyncScript": ("POST", "/execute/async"),
    "WebDriver:NewWindow": ("POST", "/window/new"),
    "WebDriver:SwitchToWindow": ("POST", "/window"),
    "WebDriver:CloseWindow": ("DELETE", "/window"),
    "WebDriver:GetWindowHandle": ("GET", "/window"),
    "WebDriver:GetWindowHandles": ("GET", "/window/handles"),
    "WebDriver:GetCookies": ("GET", "/cookie"),
    "WebDriver:DeleteAllCookies": ("DELETE", "/cookie"),
    "WebDriver:SetTimeouts": ("POST", "/timeouts"),
    "chromium:SetNetworkConditions": ("POST", "/chromium/network_conditions"),
}
"""The commands by Marionette's name, and where W3C WebDriver has each."""


class HttpWire(Wire):
    """One session of a driver that speaks W3C WebDriver."""

    def __init__(self, http: ClientSession, session_url: str) -> None:
        self._http = http
        self._session_url = session_url

    @classmethod
    async def begin(cls, port: int, capabilities: Mapping[str, Any]) -> "HttpWire":
        """Begin a session at a driver."""
        http = ClientSession(timeout=ClientTimeout(COMMAND_SECONDS))
        base = f"http://127.0.0.1:{port}/session"
        try:
            value = await _ask(http, "POST", base, {"capabilities": {"alwaysMatch": capabilities}})
        except BaseException:
            await http.close()
            raise
        return cls(http, f"{base}/{value['sessionId']}")

    async def command(self, name: str, parameters: Mapping[str, Any]) -> Any:
        method, path = _OVER_HTTP[name]
        body = parameters if method == "POST" else None
        return await _ask(self._http, method, f"{self._session_url}{path}", body)

    async def close(self) -> None:
        await self._http.close()


async def _ask(http: ClientSession, method: str, url: str, body: Mapping[str, Any] | None) -> Any:
    async with http.request(method, url, json=body) as answer:
        value = (await answer.json(content_type=None))["value"]
    if answer.status != 200:
        raise EngineError(
            f"{method} {url.rpartition('/')[2]}: {value['error']}: {value['message']}"
        )
    return value


class MarionetteWire(Wire):
    """Firefox's own remote end: commands as `length:[0, id, name, parameters]` over TCP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._last = 0

    @classmethod
    async def begin(cls, port: int) -> "MarionetteWire":
        """Begin the session; there is one at a time."""
        wire = cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**24))
        await wire._receive()  # it says hello first
        await wire.command("WebDriver:NewSession", {"acceptInsecureCerts": True})
        return wire

    async def command(self, name: str, parameters: Mapping[str, Any]) -> Any:
        self._last += 1
        text = json.dumps([0, self._last, name, parameters]).encode()
        self._writer.write(b"%d:%s" % (len(text), text))
        async with asyncio.timeout(COMMAND_SECONDS):
            await self._writer.drain()
            _, number, error, value = await self._receive()
        assert number == self._last
        if error:
            raise EngineError(f"{name}: {error['error']}: {error['message']}")
        # A lone value comes wrapped.
        return value["value"] if isinstance(value, dict) and list(value) == ["value"] else value

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _receive(self) -> Any:
        size = (await self._reader.readuntil(b":"))[:-1]
        return json.loads(await self._reader.readexactly(int(size)))


class Engine(ABC):
    """A browser with a tab in front. Every command is for that tab."""

    name: str
    restarts = True
    """Whether it keeps a profile between runs under its driver."""
    goes_offline = True
    """Whether it can be told that the machine is offline."""
    global_privacy_control = False
    """Whether it has that setting; if not, a page can only pretend."""
    prerenders = False
    local_storage: str
    """The files of the profile that hold it."""

    def __init__(self, needs: Needs, profile: Path) -> None:
        self._needs = needs
        self._profile = profile
        self._processes: list[Process] = []
        self._wire: Wire | None = None

    async def start(self) -> None:
        """Start it on its profile folder."""
        self._profile.mkdir(exist_ok=True)
        self._wire = await self._start()
        await self._command("WebDriver:SetTimeouts", script=30_000, pageLoad=30_000)

    async def start_at(self, url: str) -> None:
        """Start it with a page."""
        await self.start()
        await self.opens(url)

    @abstractmethod
    async def _start(self) -> Wire: ...

    async def kill(self) -> None:
        """Kill -9 every process of it at once, without a word to the pages."""
        await kill_trees(self._processes)
        self._processes.clear()
        if self._wire is not None:
            await self._wire.close()
            self._wire = None

    async def set_offline(self, offline: bool) -> None:  # noqa: FBT001 - one word says it
        """Tell it that the machine is offline, or no longer."""
        raise NotImplementedError

    async def set_global_privacy_control(self, on: bool) -> None:  # noqa: FBT001 - as above
        """Turn the browser's setting on or off."""
        raise NotImplementedError

    async def opens(self, url: str) -> None:
        """Go there; returns when the page has loaded."""
        await self._command("WebDriver:Navigate", url=url)

    async def goes_back(self) -> None:
        await self._command("WebDriver:Back")

    async def runs(self, script: str, *values: Any) -> Any:
        """Run the body of a function in the page; `arguments` are the values."""
        return await self._command("WebDriver:ExecuteScript", script=script, args=list(values))

    async def until(self, script: str, what: str, seconds: float = 30) -> Any:
        """Wait until the script gives something true, and return it. A page may be between two."""
        found: list[Any] = []

        async def looks() -> bool:
            with suppress(EngineError):
                found[:] = [await self.runs(script)]
                return bool(found[0])
            return False

        await eventually(looks, seconds, f"{self.name}: {what}", every=0.02)
        return found[0]

    async def new_tab(self) -> str:
        """Open a tab and bring it to the front."""
        made = await self._command("WebDriver:NewWindow", type="tab", focus=True)
        handle = str(made["handle"])
        await self.switch_to(handle)
        return handle

    async def current_tab(self) -> str:
        """The handle of the tab that commands are for."""
        return str(await self._command("WebDriver:GetWindowHandle"))

    async def switch_to(self, handle: str) -> None:
        await self._command("WebDriver:SwitchToWindow", handle=handle)

    async def close_tab(self) -> None:
        """Close the tab as its cross does, and stand in one that is left."""
        left = await self._command("WebDriver:CloseWindow")
        await self.switch_to(left[-1])

    async def only_new_tab(self) -> None:
        """Close all tabs but one new one: what they did in the background ends."""
        old = await self._command("WebDriver:GetWindowHandles")
        new = await self.new_tab()
        for handle in old:
            await self.switch_to(handle)
            await self._command("WebDriver:CloseWindow")
        await self.switch_to(new)

    async def cookies(self) -> dict[str, str]:
        """The cookies of the page's address, those for no script's eyes too."""
        found = await self._command("WebDriver:GetCookies")
        return {each["name"]: each["value"] for each in found}

    async def forget_cookies(self) -> None:
        await self._command("WebDriver:DeleteAllCookies")

    async def _command(self, name: str, **parameters: Any) -> Any:
        assert self._wire is not None
        return await self._wire.command(name, parameters)

    async def _spawn(
        self, arguments: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        with (self._profile.parent / f"{self.name}.log").open("ab") as log:
            self._processes.append(
                await asyncio.create_subprocess_exec(
                    *arguments, stdin=DEVNULL, stdout=log, stderr=log, env=environment
                )
            )


class Chromium(Engine):
    """Debian's Chromium under its chromedriver."""

    name = "chromium"
    prerenders = True
    local_storage = "Default/Local Storage/leveldb/*"

    async def _start(self) -> Wire:
        port = free_port()
        await self._spawn([self._needs("chromedriver"), f"--port={port}"])
        await _until_listening(port)
        flags = [*CHROMIUM_FLAGS, f"user-data-dir={self._profile}"]
        options = {
            "binary": self._needs("chromium"),
            "args": [f"--{flag}" for flag in flags],
        }
        return await HttpWire.begin(
            port, {"acceptInsecureCerts": True, "goog:chromeOptions": options}
        )

    async def set_offline(self, offline: bool) -> None:  # noqa: FBT001
        conditions = {"offline": offline, "latency": 0, "throughput": -1}
        await self._command("chromium:SetNetworkConditions", network_conditions=conditions)


class Firefox(Engine):
    """Debian's Firefox, spoken to without a driver between."""

    name = "firefox"
    local_storage = "storage/default/*/ls/*"
    global_privacy_control = True

    async def _start(self) -> Wire:
        preferences = "".join(
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
            for name, value in FIREFOX_PREFERENCES.items()
        )
        (self._profile / "user.js").write_text(preferences)
        said = self._profile / "MarionetteActivePort"
        said.unlink(missing_ok=True)
        arguments = ("--headless", "--no-remote", "--marionette", "--remote-allow-system-access")
        await self._spawn([self._needs("firefox-esr"), *arguments, "--profile", self._profile])

        async def has_said() -> bool:
            return said.exists() and bool(said.read_text())

        await eventually(has_said, START_SECONDS, "Firefox has told its port")
        return await MarionetteWire.begin(int(said.read_text()))

    async def set_offline(self, offline: bool) -> None:  # noqa: FBT001
        await self._runs_inside("Services.io.offline = arguments[0]", offline)

    async def set_global_privacy_control(self, on: bool) -> None:  # noqa: FBT001
        name = "privacy.globalprivacycontrol.enabled"
        await self._runs_inside(f"Services.prefs.setBoolPref('{name}', arguments[0])", on)

    async def _runs_inside(self, script: str, *values: Any) -> None:
        """Run a script as the browser itself, which may change its settings."""
        await self._command("Marionette:SetContext", value="chrome")
        try:
            await self.runs(script, *values)
        finally:
            await self._command("Marionette:SetContext", value="content")


class WebKit(Engine):
    """WebKitGTK's MiniBrowser under its driver, on a display of its own."""

    name = "webkit"
    local_storage = "XDG_DATA_HOME/**/localstorage/*"
    restarts = False
    goes_offline = False

    async def _start(self) -> Wire:
        environment = await self._on_a_display()
        port = free_port()
        driver = [self._needs("WebKitWebDriver"), f"--port={port}", "--host=127.0.0.1"]
        await self._spawn(driver, environment)
        await _until_listening(port)
        options = {"binary": str(mini_browser(self._needs)), "args": ["--automation"]}
        return await HttpWire.begin(
            port,
            {
                "browserName": "MiniBrowser",
                "acceptInsecureCerts": True,
                "webkitgtk:browserOptions": options,
            },
        )

    async def _on_a_display(self) -> dict[str, str]:
        """Start an X server; the environment of a program that draws there."""
        reads, writes = os.pipe()
        arguments = (f"-displayfd {writes} -screen 0 1280x800x24 -nolisten tcp").split()
        self._processes.append(
            await asyncio.create_subprocess_exec(
                self._needs("Xvfb"), *arguments, pass_fds=[writes], stdout=DEVNULL, stderr=DEVNULL
            )
        )
        os.close(writes)
        with os.fdopen(reads) as said:
            number = await asyncio.to_thread(said.readline)
        folders = {
            name: str(self._profile / name)
            for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
        }
        return dict(os.environ, DISPLAY=f":{number.strip()}", GDK_BACKEND="x11", **folders)


class Unattended(WebKit):
    """MiniBrowser as a person has it, with a profile and no driver: its pages act by themselves."""

    restarts = True

    async def _start(self) -> Wire:
        raise NotImplementedError

    async def start_at(self, url: str) -> None:
        self._profile.mkdir(exist_ok=True)
        environment = await self._on_a_display()
        await self._spawn([mini_browser(self._needs), "--ignore-tls-errors", url], environment)


ENGINES: Mapping[str, type[Engine]] = {each.name: each for each in (Chromium, Firefox, WebKit)}


def mini_browser(needs: Needs) -> Path:
    """WebKitGTK's own small browser; it comes with the library, outside of PATH."""
    needs("WebKitWebDriver")
    [*_, newest] = sorted(Path("/usr").glob("lib*/**/webkit2gtk-4*/MiniBrowser"))
    return newest


async def kill_trees(roots: Sequence[Process]) -> None:
    """Kill -9 processes that we started, with all that they started."""
    for process in _with_descendants([root.pid for root in roots]):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    for root in roots:
        await root.wait()


def _with_descendants(roots: Sequence[int]) -> list[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                # The parent stands second after the name, which may hold anything.
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found = list(roots)
    for each in found:  # grows meanwhile
        found.extend(children.get(each, ()))
    return found


async def _until_listening(port: int) -> None:
    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    await eventually(listens, START_SECONDS, f"a driver listens on {port}")
