"""The console's page in a real browser: what an operator sees, and what hostile data cannot do."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from gateway.http.console import ConsoleSettings
from gateway.model import envelope
from gateway.model.journal import Answer, Postponed, Settled
from gateway.model.outcome import Outcome, Reason
from tests.consoles import Console, running, some_life
from tests.written import SetClock, bury, delivered, event, letter, note, take

pytestmark = pytest.mark.system
TOKEN = "a token of enough characters"
HOSTILE = "<script>window.owned=1</script><img src=x onerror=window.owned=1>"


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with running(tmp_path, ConsoleSettings(), SetClock()) as console:
        yield console


def text_of(browser: Chrome, selector: str) -> str:
    return " | ".join(each.text for each in browser.find_elements(By.CSS_SELECTOR, selector))


def said(browser: Chrome) -> list[str]:
    """Return what the browser complained of since the last call: errors, breaches of the policy."""
    log = browser.get_log("browser")  # type: ignore[no-untyped-call]  # Selenium has no type here
    return [each["message"] for each in log]


async def sees(browser: Chrome, selector: str, words: str) -> None:
    """Wait until the page shows some words."""

    def look() -> None:
        WebDriverWait(browser, 15).until(
            lambda driver: words in text_of(driver, selector),
            f"{words!r} is not in {selector}",
        )

    try:
        await asyncio.to_thread(look)
    except Exception:
        print(await asyncio.to_thread(text_of, browser, "body"))  # noqa: T201 - why it failed
        raise


async def opens(browser: Chrome, url: str) -> None:
    await asyncio.to_thread(browser.get, "about:blank")
    await asyncio.to_thread(browser.get, url)


async def test_events_appear_as_they_come_and_their_outcomes_after_them(
    browser: Chrome, console: Console
) -> None:
    await opens(browser, console.url)
    await sees(browser, "main", "No event yet")
    await sees(browser, "#live", "live")
    await take(console.buffer, event("e-1", cartReference="c-1"))
    await sees(browser, "tbody tr", "e-1")
    await sees(browser, "tbody .states", "voyado waiting")
    await note(console.buffer, delivered(0))
    await sees(browser, "tbody .states", "voyado delivered")
    await sees(browser, "#destinations", "1 delivered")


async def test_a_trace_shows_requests_answers_and_why_it_waits(
    browser: Chrome, console: Console
) -> None:
    await some_life(console)
    await opens(browser, console.url)
    await sees(browser, "tbody tr", "e-late")
    search = browser.find_element(By.ID, "id")
    await asyncio.to_thread(
        browser.find_element(By.CSS_SELECTOR, "body").send_keys, "/", "c-2", Keys.ENTER
    )
    assert await asyncio.to_thread(search.get_attribute, "value") == "c-2"
    await sees(browser, ".fates", "POST carts at")
    await sees(browser, ".fates", "503 (unavailable): Service Unavailable; next attempt from")
    await sees(browser, "ol.line", "durable in the log at 0-1")
    await note(console.buffer, delivered(1))
    await sees(browser, ".fates", "delivered")


async def test_a_dead_letter_is_listed_and_shown(browser: Chrome, console: Console) -> None:
    await some_life(console)
    await opens(browser, console.url + "#dead-letters")
    await sees(browser, "tbody", "rejected at ingest")
    await sees(browser, "tbody", "items[0].sku is unknown")
    link = browser.find_element(By.LINK_TEXT, "0-0")
    await asyncio.to_thread(link.click)
    await sees(browser, "main", '"error": "sku"')


async def test_what_is_not_found_says_what_was_looked_through(
    browser: Chrome, console: Console
) -> None:
    await opens(browser, console.url + "#trace/nothing")
    await sees(browser, "main", "Nothing found.")
    await sees(browser, "main", "all that there is")


async def test_the_token_is_asked_for_once(browser: Chrome, tmp_path: Path) -> None:
    settings = ConsoleSettings(token=SecretStr(TOKEN))
    async with running(tmp_path, settings, SetClock()) as console:
        await some_life(console)
        await opens(browser, console.url)
        await sees(browser, "#token-form", "This console wants its token")
        field = browser.find_element(By.ID, "token")
        await asyncio.to_thread(field.send_keys, TOKEN, Keys.ENTER)
        await sees(browser, "tbody tr", "e-lead")
        await asyncio.to_thread(browser.refresh)
        await sees(browser, "tbody tr", "e-lead")


async def test_hostile_data_is_shown_as_text_and_never_runs(
    browser: Chrome, console: Console
) -> None:
    await asyncio.to_thread(browser.get, "about:blank")
    said(browser)
    made = event(HOSTILE, title=HOSTILE, cartReference=HOSTILE, metadata={HOSTILE: HOSTILE})
    page = event("e-page", "page", title=HOSTILE)
    await take(console.buffer, made, page)
    at = made.received_ms
    again = Postponed(0, Reason.UNAVAILABLE, at, HOSTILE)
    dead = Settled(0, Outcome.DEAD, Reason.REFUSED, HOSTILE)
    await note(
        console.buffer,
        Answer("voyado", at, (), (again,), HOSTILE, HOSTILE, 503, HOSTILE),
        Answer("voyado", at, (dead,), (), HOSTILE, HOSTILE, 400, HOSTILE),
        Answer(HOSTILE, at, (dead,), (), HOSTILE, HOSTILE, 400, HOSTILE),
    )
    await bury(console.buffer, letter(0, made))
    await console.caught_up()
    for view, selector in [
        ("", "tbody"),
        (f"#trace/{HOSTILE}", ".card"),
        ("#trace/0-0", ".card"),
        ("#dead-letters", "tbody"),
        ("#dead-letters/0-0", ".card"),
    ]:
        await opens(browser, console.url + "/" + view)
        await sees(browser, selector, HOSTILE)
        await sees(browser, "#destinations", HOSTILE)
        for details in browser.find_elements(By.TAG_NAME, "details"):
            await asyncio.to_thread(browser.execute_script, "arguments[0].open = true", details)
        script = "return [window.owned, document.querySelectorAll('img, script:not([src])').length]"
        assert await asyncio.to_thread(browser.execute_script, script) == [None, 0]
    assert said(browser) == []


async def test_a_dead_letter_is_replayed_with_a_button_and_dropped_with_two(
    browser: Chrome, console: Console
) -> None:
    made = event("e-lead", "lead", eventName="Sign up", customerId="u-1")
    whole = replace(letter(0, made, "dub"), event=orjson.loads(envelope.encode(made)))
    await take(console.buffer, made)
    await bury(console.buffer, whole, replace(whole, offset=7))
    await console.caught_up()
    await opens(browser, f"{console.url}/#dead-letters")
    await sees(browser, "code", "gateway dead-letters replay --all")
    await opens(browser, f"{console.url}/#dead-letters/0-0")
    await sees(browser, "[role=status]", "Nothing was done about it yet.")
    await presses(browser, "Replay")
    await sees(browser, "[role=status]", "replayed: as 0-1")
    await opens(browser, f"{console.url}/#dead-letters/0-1")
    await presses(browser, "Drop")
    await presses(browser, "Drop it for good")
    await sees(browser, "[role=status]", "dropped")
    assert said(browser) == []


async def presses(browser: Chrome, words: str) -> None:
    await sees(browser, "button", words)
    found = browser.find_elements(By.CSS_SELECTOR, "button")
    [button] = [each for each in found if each.text == words]
    await asyncio.to_thread(button.click)
