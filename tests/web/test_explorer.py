"""The explorer in a real browser, mostly by keyboard: what a person sees and can do."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import anyio
import pytest
from pydantic import BaseModel, Field

import wsrpc
from wsrpc.interop.service import Interop

from .browser import Chromium, Page, chromium, require_chromium
from .node import missing
from .showcase import Forms, Writer

pytestmark = pytest.mark.web


@pytest.fixture
def anyio_backend() -> str:
    """The browser is driven by asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def browser_is_there() -> None:
    require_chromium()


def showcase(**options: Any) -> wsrpc.Server:
    return wsrpc.Server([Writer(), Forms(), Interop()], explorer=True, **options)


@asynccontextmanager
async def explored(
    method: str = "",
    *,
    server: wsrpc.Server | None = None,
    quiet: bool = True,
    ready: str = "!!document.querySelector('h1')",
    **window: Any,
) -> AsyncIterator[tuple[Page, wsrpc.Server]]:
    """A page that shows a method; after the test its console and its requests are checked."""
    server = server or showcase()
    with anyio.fail_after(120):
        async with server.listen() as listener, chromium() as browser:
            url = f"{listener.http_url}#{method}"
            page = await browser.page(url, **window)
            await page.until(ready)
            yield page, server
            hosts = {re.sub(r"^\w+://([^/]*).*", r"\1", one) for one in page.requests}
            assert hosts <= {listener.http_url.split("/")[2], "", "data:"} | {
                one for one in hosts if one.startswith("data:")
            }, hosts
            if quiet:
                assert page.messages == []


def link(method: str, args: dict[str, Any]) -> str:
    """The part of the address after "#" that shows a method with these arguments."""
    return f"{method}?{quote(json.dumps(args))}"


async def outcome(page: Page, word: str) -> str:
    """Wait until the newest call has an outcome, and give all that its card says."""
    await page.until(
        "!!document.querySelector('.out:not(.live) .what')?.innerText"
        f".startsWith({json.dumps(word)})"
    )
    text: str = await page.run("document.querySelector('.out').innerText")
    return text


async def fill(page: Page, label: str, text: str) -> None:
    """Type into the field with this label."""
    await page.until(
        f"""(() => {{
            const label = [...document.querySelectorAll('main label')]
                .find((one) => one.innerText === {json.dumps(label)});
            const input = label && document.getElementById(label.htmlFor);
            input?.focus();
            input?.select?.();
            return !!input;
        }})()"""
    )
    await page.type(text)


async def press(page: Page, words: str, within: str = "body") -> None:
    """Press the button that says these words."""
    await page.until(
        f"""(() => {{
            const all = document.querySelectorAll({json.dumps(within)} + ' button');
            const one = [...all].find((b) => b.innerText === {json.dumps(words)} && !b.hidden);
            one?.click();
            return !!one;
        }})()"""
    )


async def transcript(page: Page) -> str:
    """What "Copy all" of the frames copies."""
    await page.run("(navigator.clipboard.writeText = async (text) => void (window.copied = text))")
    await press(page, "Copy all", "#frames")
    copied: str = await page.until("window.copied")
    return copied


class Counted:
    @wsrpc.method
    async def total(self, numbers: list[Annotated[int, Field(ge=0)]], name: str = "") -> int:
        return sum(numbers)


@pytest.mark.slow
async def test_an_error_stands_at_its_own_row_and_under_the_json_where_there_are_no_rows() -> None:
    numbers = [*range(10), -1, 11]
    method = link("Counted.total", {"numbers": numbers})
    async with explored(method, server=wsrpc.Server([Counted()], explorer=True)) as (page, _):
        await page.key("Enter", "Control")
        await outcome(page, "invalid_argument")
        wrong = "[...document.querySelectorAll('main [aria-invalid=true]')]"
        assert await page.run(f"{wrong}.map((one) => one.value).join()") == "-1"
        assert await page.run(f"{wrong}[0] === document.activeElement")
        await press(page, "JSON", "main")
        await page.key("Enter", "Control")
        said = await page.until("document.getElementById('whole-wrong').innerText")
        assert said == "numbers.10: Input should be greater than or equal to 0"
        assert await page.run(f"{wrong}.map((one) => one.className).join()") == "whole"
        assert await page.run("document.activeElement.className") == "whole"
        await page.key("a", "Control")
        await page.type('{"numbers": [1], "nam": ""}')
        await page.key("Enter", "Control")
        await page.until_says("#whole-wrong", "nam: Extra inputs are not permitted")
        await page.key("a", "Control")
        await page.type('{"numbers": [1]}')
        await page.key("Enter", "Control")
        await outcome(page, "result")
        assert await page.run(f"{wrong}.length") == 0


# Answers of a server that is asked for its contract, and the words that the page then shows.
BROKEN: list[tuple[Any, str]] = [
    (None, "did not tell what it offers"),
    ("none", "did not tell what it offers"),
    ({"version": 1}, "did not tell what it offers"),
    ({"controllers": [1]}, "offers no methods"),
    ({"controllers": {"A": None, "B": {}, "C": {"methods": {"m": 7}}}}, "offers no methods"),
    *(
        ({"controllers": {"A": {"methods": {"m": {"params": {"p": {"schema": one}}}}}}}, "A.m")
        for one in (
            {"anyOf": 5},
            {"enum": 5},
            {"type": "object", "properties": {"a": {}}, "required": 5},
            {"$ref": "#/$defs/A", "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}]}}},
        )
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("contract", "says"), BROKEN, ids=lambda one: json.dumps(one)[:70])
async def test_a_contract_that_is_broken_leaves_no_blank_page(contract: Any, says: str) -> None:
    """The page is shown a contract of another server's, which may say anything."""
    async with explored(ready="true", server=wsrpc.Server([Counted()], explorer=True)) as (page, _):
        await page.send("Page.addScriptToEvaluateOnNewDocument", source=f"""
            const made = JSON.parse;
            JSON.parse = (text) => {{
                const read = made(text);
                for (const one of Array.isArray(read) ? read : []) if (one[0] === "result" && one[2]?.controllers) one[2] = made({json.dumps(json.dumps(contract))});
                return read;
            }};
        """)  # fmt: skip
        await page.send("Page.reload")
        await page.until_says("main", says)


async def test_a_person_without_a_mouse_finds_a_method_calls_it_and_stops_it() -> None:
    """The smoke test: of all tests of the explorer, `make test` runs this one."""
    async with explored() as (page, server):
        await page.key("/")
        await page.type("stream_t")
        await page.key("Enter")
        await page.until_says("h1", "Writer.stream_tokens")
        await page.key("Enter", "Control")
        await page.until("document.querySelector('.live .text')?.innerText.length > 20")
        assert server.stats.calls_live == 1
        await page.key("Escape")
        await outcome(page, "stopped")
        await page.until_says(".what", "cleaned up after")
        assert server.stats.calls_live == 0


@pytest.mark.slow
async def test_a_call_shows_its_result_and_keeps_earlier_ones() -> None:
    async with explored("Writer.greet") as (page, _):
        await fill(page, "name", "Ada")
        await page.key("Enter")
        assert '"Hello, Ada!"' in await outcome(page, "result")
        await fill(page, "name", "Bob")
        await page.key("Enter")
        await page.until("document.querySelectorAll('.out:not(.live)').length === 2")
        texts = await page.run("[...document.querySelectorAll('.out')].map((o) => o.innerText)")
        assert "Bob" in texts[0]
        assert "Ada" in texts[1]
        await page.click(".out [aria-label^=Dismiss]")
        await page.until("document.querySelectorAll('.out').length === 1")


class Oven:
    @wsrpc.method(timeout=0.2)
    async def bake(self) -> None:
        await anyio.sleep(60)


@pytest.mark.slow
async def test_the_page_says_which_server_it_is_and_how_long_a_method_may_take() -> None:
    server = wsrpc.Server([Oven()], explorer=True, name="bakery", version="1.2")
    async with explored(server=server) as (page, _):
        await page.until_says("#url", "bakery 1.2 127.0.0.1:")
        await page.until_says(".facts", "at most 0.2 s")
        await press(page, "Call")
        await outcome(page, "deadline_exceeded")


@pytest.mark.slow
async def test_the_explorer_can_call_again_while_a_stream_runs() -> None:
    async with explored("Writer.stream_tokens") as (page, server):
        await page.key("Enter", "Control")
        await page.until_says(".live .what", "streaming")
        await press(page, "Start another")
        await page.until_says(".running", "2 running")
        for _ in range(2):
            await page.key("Escape")
        await page.until("!document.querySelector('.live')")
        assert server.stats.calls_live == 0


@pytest.mark.slow
async def test_pause_stops_consuming_until_the_server_waits() -> None:
    async with explored("Interop.forever") as (page, server):
        await fill(page, "delay", "0")
        await page.key("Enter")
        await page.until_says(".live .what", "streaming")
        await press(page, "Pause")
        await page.until("parseFloat(document.querySelector('.credit b').style.width) < 20")
        stopped = await page.run("document.querySelector('.out .top').innerText")
        await press(page, "Go on")
        await page.until("parseFloat(document.querySelector('.credit b').style.width) > 20")
        assert "paused" in stopped
        await press(page, "Stop", ".bar")
        await outcome(page, "stopped")
        assert server.stats.calls_live == 0


@pytest.mark.slow
async def test_a_cut_is_shown_and_the_stream_goes_on() -> None:
    async with explored("Interop.count?%7B%22n%22%3A60%2C%22delay%22%3A0.05%7D") as (page, server):
        await page.key("Enter", "Control")
        await page.until("document.querySelectorAll('.items li').length > 3")
        await page.click("#cut")
        await page.until_says("#state", "resumed 1×")
        await outcome(page, "ended")
        rows = await page.run(
            "[...document.querySelectorAll('.items code')].map((one) => Number(one.innerText))"
        )
        assert rows == list(range(60))
        notes = await page.run(
            "[...document.querySelectorAll('#rows .note')].map((one) => one.innerText)"
        )
        assert any("lost" in note for note in notes)
        assert "resumed: the session goes on" in notes
        assert len(server.sessions) == 1


@pytest.mark.slow
async def test_staying_away_lets_items_wait_at_the_server() -> None:
    async with explored("Interop.count?%7B%22n%22%3A500%2C%22delay%22%3A0.02%7D") as (page, server):
        await page.key("Enter", "Control")
        await page.until("document.querySelectorAll('.items li').length > 3")
        await page.click("#state")
        await page.until_says("#menu", "stay away")
        await page.key("ArrowDown")
        await page.key("Enter")
        await page.until_says("#state", "coming back")
        await page.until_says("#notice", "The connection is lost")
        assert server.snapshot().detached == 1
        await page.until_says("#state", "resumed 1×")
        await page.until("document.querySelector('#notice').hidden")


@pytest.mark.slow
async def test_invalid_arguments_are_told_at_their_fields() -> None:
    async with explored("Writer.stream_tokens") as (page, _):
        await fill(page, "words", "900")
        await page.key("Enter", "Control")
        await outcome(page, "invalid_argument")
        told = await page.run(
            """(() => {
                const input = document.activeElement;
                const about = input.getAttribute('aria-describedby').split(' ')
                    .map((id) => document.getElementById(id).innerText).join(' ');
                return [input.getAttribute('aria-invalid'), input.value, about];
            })()"""
        )
        assert told[:2] == ["true", "900"]
        assert "less than or equal to 500" in told[2]


@pytest.mark.slow
async def test_a_number_that_is_none_is_refused_before_it_goes() -> None:
    async with explored("Writer.stream_tokens") as (page, server):
        await fill(page, "words", "many")
        await page.key("Enter", "Control")
        await page.until_says("main", "This is no whole number.")
        assert not await page.run("document.querySelectorAll('.out').length")
        assert server.stats.calls_peak <= 1


class Ids:
    @wsrpc.method
    async def twice(self, id: int, any: Any = None) -> str:
        return f"{id * 2}, {any}"

    @wsrpc.method
    async def some(self) -> list[Any]:
        return [2**53 + 1, 1.0, 0.1]

    @wsrpc.method
    async def each(self) -> AsyncIterator[int]:
        for i in range(3):
            yield 2**53 + i


@pytest.mark.slow
async def test_integers_beyond_2_to_the_53_go_as_they_were_typed() -> None:
    server = wsrpc.Server([Ids()], explorer=True)
    async with explored(server=server) as (page, _):
        await fill(page, "id", "9007199254740993")
        await fill(page, "any", '{"a": [9007199254740995, 1.5, -9007199254740997]}')
        await press(page, "JSON", ".bar")
        await page.key("Enter", "Control")
        said = await outcome(page, "result")
        assert "18014398509481986, {'a': [9007199254740995, 1.5, -9007199254740997]}" in said
        await page.run("document.querySelector('#t-code').click()")
        await page.until_says("#code", "id:=9007199254740993")
        await page.run("document.querySelector('#t-history').click()")
        await page.run("(document.querySelector('.whole').value = '')")
        await page.run("document.querySelector('#calls button').click()")
        await press(page, "JSON", ".bar")
        assert '"id": 9007199254740993' in await page.run("document.querySelector('.whole').value")


@pytest.mark.slow
async def test_numbers_that_come_are_shown_as_they_were_written() -> None:
    server = wsrpc.Server([Ids()], explorer=True)
    async with explored("Ids.each", server=server) as (page, _):
        await page.key("Enter", "Control")
        assert "9007199254740993" in await outcome(page, "ended")
        await page.run("location.hash = 'Ids.some'")
        await page.until_says("h1", "Ids.some")
        await page.key("Enter", "Control")
        assert "9007199254740993" in await outcome(page, "result")
        await page.until_says("#rows", "[9007199254740993,1.0,0.1]")
        copied = await transcript(page)
        assert "[9007199254740993,1.0,0.1]" in copied
        assert "9007199254740992" in copied
        assert "9007199254740994" in copied


FORMS: list[tuple[str, Any]] = [
    ("Forms.pets", {"pets": [{"kind": "cat", "lives": 3}, {"kind": "dog", "name": "Rex"}]}),
    ("Forms.tree", {"root": {"name": "a", "left": {"name": "b"}, "children": [{"name": "c"}]}}),
    ("Forms.scores", {"scores": {"ann": 1, "bob": 2}, "strict": False}),
    ("Forms.point", {"at": [1, 2], "note": None}),
    ("Forms.point", {"at": [1, 2], "note": "here"}),
    ("Forms.point", {"at": [3, 4]}),
    ("Forms.digest", {"data": "aGVsbG8="}),
    ("Forms.digest", {"data": "_-8A"}),
    ("Forms.anything", {"value": {"deep": [1, "two", None]}}),
    ("Writer.stream_tokens", {"prompt": {"topic": "x", "tone": "grand", "seed": 7}}),
]


@pytest.mark.slow
async def test_arguments_go_into_the_form_and_come_out_the_same() -> None:
    async with explored() as (page, _):
        for method, arguments in FORMS:
            link = f"#{method}?" + await page.run(
                f"encodeURIComponent({json.dumps(json.dumps(arguments))})"
            )
            await page.run(f"location.hash = {json.dumps(link)}")
            await page.until_says("h1", method)
            assert await page.run("document.querySelector('.whole').parentElement.hidden"), method
            await press(page, "JSON", ".bar")
            assert json.loads(await page.run("document.querySelector('.whole').value")) == arguments
            await press(page, "Form", ".bar")
            await press(page, "JSON", ".bar")
            assert json.loads(await page.run("document.querySelector('.whole').value")) == arguments


@pytest.mark.slow
async def test_a_link_fills_the_form_and_never_calls_by_itself() -> None:
    async with explored("Writer.greet?%7B%22name%22%3A%22Eve%22%7D") as (page, _):
        assert await page.run("document.querySelector('main input').value") == "Eve"
        await anyio.sleep(0.3)
        assert not await page.run("document.querySelectorAll('.out').length")


@pytest.mark.slow
async def test_broken_json_is_refused_and_the_place_is_named() -> None:
    async with explored("Forms.anything") as (page, _):
        await fill(page, "value", '{"a": 1,\n "b": oops}')
        await page.key("Enter", "Control")
        await page.until_says("main", "This is no JSON from line 2, column 7 on.")


@pytest.mark.slow
async def test_a_secret_is_typed_in_dots_and_shown_nowhere() -> None:
    async with explored("Forms.login") as (page, _):
        await fill(page, "user", "ann")
        await fill(page, "password", "hunter2")
        assert await page.run("document.activeElement.type") == "password"
        await page.key("Enter", "Control")
        assert "7 characters" in await outcome(page, "result")
        await page.run("location.hash = 'Forms.logins'")
        await page.until_says("h1", "Forms.logins")
        await press(page, "JSON", ".bar")
        await page.run("document.querySelector('.whole').focus()")
        await page.run("document.activeElement.select()")
        await page.type(json.dumps({"logins": [None, {"user": "bob", "password": "hunter2"}]}))
        await page.key("Enter", "Control")
        await page.until("document.querySelectorAll('.out:not(.live)').length === 2")
        await page.run("document.querySelector('.whole').value = ''")
        await page.run("document.querySelector('#t-history').click()")
        await page.run("document.querySelector('#t-code').click()")
        everything = await page.run(
            """(async () => {
                for (const one of document.querySelectorAll('#rows li')) one.click();
                const kept = JSON.stringify([{...sessionStorage}, {...localStorage}]);
                return document.body.textContent + kept;
            })()"""
        ) + await transcript(page)
        assert "Forms.logins" in everything
        assert "bob" in everything
        assert "hunter2" not in everything


@pytest.mark.slow
async def test_a_file_is_uploaded_and_its_callback_is_shown(tmp_path: Path) -> None:
    content = bytes(range(256)) * 500
    path = tmp_path / "data.bin"
    path.write_bytes(content)
    async with explored("Writer.import_file") as (page, _):
        await page.key("Enter", "Control")
        await page.until_says("main", "Choose a file first.")
        await page.files("main input[type=file]", [str(path)])
        await page.key("Enter", "Control")
        text = await outcome(page, "result")
        assert f'"bytes": {len(content)}' in text
        assert f'"on_progress":{len(content)}' in text.replace(" ", "")


@pytest.mark.slow
async def test_an_upload_goes_item_by_item_and_ends_by_hand() -> None:
    async with explored("Interop.sum") as (page, _):
        await page.key("Enter", "Control")
        await page.until("!!document.querySelector('.sender')")
        for number in ("3", "4.5"):
            await page.run("document.querySelector('.sender input, .sender textarea').focus()")
            await page.run("document.activeElement.select()")
            await page.type(number)
            await page.key("Enter")
        await page.until_says(".sender", "2 sent")
        await press(page, "End", ".sender")
        assert "7.5" in await outcome(page, "result")


@pytest.mark.slow
async def test_an_upload_that_is_failed_by_hand_fails_the_call() -> None:
    async with explored("Interop.sum") as (page, _):
        await page.key("Enter", "Control")
        await press(page, "Fail", ".sender")
        await page.until("!!document.querySelector('.out.bad')")


@pytest.mark.slow
async def test_the_server_asks_and_a_person_answers() -> None:
    async with explored("Writer.delete_everything") as (page, _):
        await page.key("Enter", "Control")
        await page.until_says(".ask", "The server calls Page.ask")
        await page.until_says(".waits", "waiting for your answer: Page.ask →")
        await page.run("document.querySelector('.ask textarea').focus()")
        await press(page, "Answer", ".ask")
        await page.until_says(".ask .wrong", "as JSON first")
        await page.type("treu")
        await press(page, "Answer", ".ask")
        await page.until_says(".ask .wrong", "This is no JSON from line 1")
        await press(page, "Yes", ".ask")
        assert '"deleted"' in await outcome(page, "result")
        assert await page.run("document.querySelector('#asks').hidden")


@pytest.mark.slow
async def test_a_refused_question_fails_and_a_cancelled_one_leaves() -> None:
    async with explored("Writer.delete_everything") as (page, _):
        await page.key("Enter", "Control")
        await press(page, "Refuse", ".ask")
        await outcome(page, "permission_denied")
        await page.key("Enter", "Control")
        await page.until_says(".ask", "Page.ask")
        await page.key("Escape")
        await page.until("!document.querySelector('.ask:not(.plain)')")
        await outcome(page, "stopped")


@pytest.mark.slow
async def test_an_answer_can_be_given_always_and_beforehand() -> None:
    async with explored("Writer.delete_everything") as (page, _):
        await page.run("document.querySelector('#t-asked').click()")
        await page.run("document.querySelector('.plain input').focus()")
        await page.type("Page.ask")
        await page.run("document.querySelectorAll('.plain input')[1].focus()")
        await page.type("false")
        await page.key("Enter")
        await page.key("Enter", "Control")
        await page.run("document.activeElement.blur()")
        await page.key("Enter", "Control")
        assert '"kept"' in await outcome(page, "result")


@pytest.mark.slow
async def test_a_notification_is_a_line_of_the_log() -> None:
    async with explored("Writer.tell?%7B%22text%22%3A%22hello+page%22%7D") as (page, _):
        await page.key("Enter", "Control")
        await outcome(page, "result")
        await page.until_says("#rows", "the server notified: Page.note")
        assert not await page.run("document.querySelector('.ask:not(.plain)')")


@pytest.mark.slow
async def test_frames_fold_open_filter_and_copy() -> None:
    async with explored("Interop.count?%7B%22n%22%3A20%7D") as (page, _):
        await page.key("Enter", "Control")
        await outcome(page, "ended")
        await page.until("/message 3 ×20/.test(document.querySelector('#rows').innerText)")
        names = "[...document.querySelectorAll('#rows strong')].map((one) => one.innerText)"
        assert "ack" not in await page.run(names)
        await page.click("#quiet")
        await page.until(f"{names}.includes('ack')")
        await page.run("document.querySelector('#filter').focus()")
        await page.type("id:3 name:end")
        await page.until("document.querySelectorAll('#rows li:not(.note)').length === 1")
        await page.run("document.querySelector('#rows li:not(.note)').focus()")
        await page.key("Enter")
        await page.until("!!document.querySelector('#rows [aria-expanded=true]')")
        copied = await transcript(page)
        lines = copied.splitlines()
        assert any(line.startswith('C: [["call",3,"Interop.count"') for line in lines)
        assert any(line.startswith('S: [["end",3') for line in lines)
        for line in lines:
            if not line.startswith("#"):
                json.loads(line.partition(": ")[2])


@pytest.mark.slow
async def test_a_recording_is_shown_as_frames_that_pass_are(tmp_path: Path) -> None:
    path, torn = tmp_path / "some.wsrec", tmp_path / "torn.wsrec"
    async with wsrpc.Server([Interop()]).listen() as listener:
        # Two recorders have written the file, each of which has a connection 1.
        recording = wsrpc.Recording(path)
        async with wsrpc.connect(listener.url, codec="msgpack", record=recording) as session:
            echo = session.clientize("Interop").echo
            assert [await echo(value=n) for n in range(40)] == [*range(40)]
        recording.flush()
        await anyio.sleep(0.1)
        recording = wsrpc.Recording(path, mask={"Interop.fail": ["data", "key"]})
        for codec in ("json", "msgpack"):
            async with wsrpc.connect(listener.url, codec=codec, record=recording) as session:
                api: Any = session.clientize("Interop")
                assert await api.echo(value=codec * 3) == codec * 3
                with pytest.raises(wsrpc.RpcError):
                    await api.fail(code="not_found", message="gone", data={"key": "hidden"})
    recording.flush()
    torn.write_bytes(path.read_bytes()[:-3])
    (tmp_path / "other.txt").write_text("no recording")
    choose = "input[aria-label='A recording']"
    async with explored() as (page, _):
        await page.until("document.querySelectorAll('#rows li').length > 3")
        await page.files(choose, [str(path)])
        await page.until_says("#rows", "connection 2 closed by C: 1000")
        shown = await page.run("document.querySelector('#rows').innerText")
        address = listener.url.split("/")[2]
        assert f"connection 1: / with {address}, json, recorded at C" in shown
        assert "jsonjsonjson" in shown
        assert "msgpackmsgpackmsgpack" in shown
        assert "hidden" not in shown
        assert "***" in shown
        assert "wsrpc.reflection.describe" not in shown, "what passes here is not mixed in"
        assert await page.run("document.documentElement.scrollHeight <= innerHeight"), (
            "the page itself does not scroll"
        )
        await page.run("document.querySelector('#filter').focus()")
        await page.type("link:2 name:error")
        assert await page.run("document.querySelectorAll('#rows li:not(.note)').length") == 1
        await page.run("document.querySelector('#rows li:not(.note)').click()")
        assert '"gone"' in await page.run("document.querySelector('#rows pre').innerText")
        await page.run("(document.querySelector('#filter').value = '')")
        # A recording is read up to its last whole block.
        await page.files(choose, [str(torn)])
        await page.until(
            "!document.querySelector('#rows').innerText.includes('connection 2 closed')"
        )
        await press(page, "Live", "#frames")
        await page.until_says("#rows", "wsrpc.reflection.describe")
        await page.files(choose, [str(tmp_path / "other.txt")])
        await page.until_says("#rows", "other.txt is no recording")
        assert await page.run("[...document.querySelectorAll('#frames button')].at(-1).hidden")


@pytest.mark.slow
async def test_history_restores_the_form() -> None:
    async with explored("Writer.greet") as (page, _):
        await fill(page, "name", "Ada")
        await page.key("Enter")
        await outcome(page, "result")
        await page.run("location.hash = 'Writer.quota'")
        await page.until_says("h1", "Writer.quota")
        await page.run("document.querySelector('#t-history').click()")
        await page.click("#calls button")
        await page.until_says("h1", "Writer.greet")
        assert await page.run("document.querySelector('main input').value") == "Ada"
        assert "Hello" not in await page.run("JSON.stringify({...sessionStorage})")
        await press(page, "Clear", "#history")
        await page.until_says("#calls", "No calls yet.")


@pytest.mark.slow
async def test_history_shows_the_outcome_of_a_call_with_long_arguments() -> None:
    async with explored(link("Writer.greet", {"name": 300 * "A"})) as (page, _):
        await page.run("document.querySelector('#t-history').click()")
        await page.run("document.querySelector('#method .primary').click()")
        await page.until_says("#calls time", "result")
        seen = await page.run(
            """(() => {
                const box = document.querySelector('#calls time').getBoundingClientRect();
                const x = box.right - 60, y = box.y + box.height / 2;
                return box.right <= innerWidth && document.elementFromPoint(x, y).tagName;
            })()"""
        )
        assert seen == "TIME"


@pytest.mark.slow
async def test_large_results_and_bytes_are_shown_in_parts() -> None:
    async with explored("Forms.large") as (page, _):
        await page.key("Enter", "Control")
        await outcome(page, "result")
        assert await page.run("document.querySelectorAll('.tree details').length") == 201
        await press(page, "show all 1,000", ".tree")
        await page.until("document.querySelectorAll('.tree details').length === 1001")
        await page.run("location.hash = 'Forms.picture'")
        await page.until_says("h1", "Forms.picture")
        await page.key("Enter", "Control")
        await page.until_says(".out", "300 bytes")
        assert "000010  10 11 12" in await page.run("document.querySelector('.out pre').innerText")


@pytest.mark.slow
async def test_credentials_are_asked_for_when_the_server_wants_them() -> None:
    async def authenticate(handshake: object, auth: object) -> str:
        if auth != "let me in":
            raise wsrpc.RpcError("unauthenticated", "no")
        return "ann"

    server = showcase(authenticate=authenticate)
    ready = "document.querySelector('#dialog').open"
    async with explored(server=server, ready=ready) as (page, _):
        await page.until_says("#notice", "wants credentials")
        await page.run("document.querySelector('#c').focus()")
        await page.type("let me in")
        await press(page, "Use", "#dialog")
        await page.until_says("#state", "open")
        await page.until_says("h1", "Writer")
        assert "let me in" not in await page.run("JSON.stringify({...sessionStorage})")
        frames = await page.run("document.querySelector('#rows').textContent")
        assert "let me in" not in frames


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "sentence", "action"),
    [
        (wsrpc.Server([], explorer=True), "offers no methods", "Ask again"),
        (
            wsrpc.Server([Writer()], reflection=False, explorer=True),
            "reflection is off",
            "Ask again",
        ),
    ],
)
async def test_every_state_is_a_sentence_and_an_action(
    server: wsrpc.Server, sentence: str, action: str
) -> None:
    ready = f"document.querySelector('#notice').innerText.includes({json.dumps(sentence)})"
    async with explored(server=server, ready=ready) as (page, _):
        assert action in await page.run("document.querySelector('#notice').innerText")
        await press(page, action, "#notice")
        await page.until(ready)


@pytest.mark.slow
async def test_a_closed_session_can_be_begun_again() -> None:
    async with explored() as (page, _):
        await page.click("#state")
        await press(page, "Close the session", "#menu")
        await page.until_says("#notice", "The session is closed")
        await press(page, "Connect again", "#notice")
        await page.until_says("#state", "open")
        await page.until("document.querySelector('#notice').hidden")


HOSTILE = "</script><script>window.hurt=1</script>\"'`${window.hurt=2}\\\n\u2028$(touch hurt)"
# The last dot of a full name ends the controller's.
METHOD = HOSTILE.replace(".", "")


@pytest.mark.slow
async def test_a_hostile_contract_nothing_in_it_ever_runs_in_generated_code_or_in_copied_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {
        "version": 1,
        "controllers": {
            "constructor": {"name": HOSTILE, "doc": HOSTILE, "methods": {}},
            HOSTILE: {
                "name": HOSTILE,
                "doc": HOSTILE,
                "methods": {
                    "__proto__": {"kind": "unary", "doc": HOSTILE, "params": {}},
                    METHOD: {
                        "kind": "unary",
                        "doc": HOSTILE,
                        "params": {
                            HOSTILE: {
                                "kind": "value",
                                "required": True,
                                "schema": {
                                    "type": "string",
                                    "title": HOSTILE,
                                    "description": HOSTILE,
                                    "examples": [HOSTILE],
                                },
                            },
                            "__proto__": {
                                "kind": "value",
                                "required": True,
                                "schema": {"$ref": "#/$defs/constructor", "examples": [HOSTILE]},
                            },
                        },
                        "result": {"type": HOSTILE, "format": HOSTILE},
                    },
                },
            },
        },
    }

    monkeypatch.setattr("wsrpc.server.server.describe", lambda *_: told)
    async with explored() as (page, _):
        for link in await page.run("[...document.querySelectorAll('nav a')].map((a) => a.hash)"):
            await page.run(f"location.hash = {json.dumps(link)}")
            await page.run("document.querySelector('#t-code').click()")
            await page.key("Enter", "Control")
            await page.until("!!document.querySelector('.out.bad')")
            await page.run("document.querySelector('.out').remove()")
        assert HOSTILE in await page.run("document.body.textContent")
        await page.run(f"location.hash = encodeURIComponent({json.dumps(f'{HOSTILE}.{METHOD}')})")
        await page.until("document.querySelector('h1').innerText.match(/hurt=1/g).length === 2")
        await page.until("document.querySelector('#code').textContent.match(/hurt=1/g).length > 8")
        made = dict(
            await page.run(
                """[...document.querySelectorAll('#code h2')].map((one) =>
                    [one.firstChild.data, one.nextElementSibling.textContent])"""
            )
        )
        tree = ast.parse(made["Python"])
        strings = {one.value for one in ast.walk(tree) if isinstance(one, ast.Constant)}
        assert HOSTILE in strings
        script = made["Command line"].replace("wsrpc call", "printf '%s\\0'", 1)
        done = await anyio.run_process(["bash", "-c", script], cwd=tmp_path)
        assert done.stdout.decode().split("\0")[1] == f"{HOSTILE}.{METHOD}"
        assert [one async for one in anyio.Path(tmp_path).iterdir()] == []
        assert await page.run("window.hurt") is None


AXE = anyio.Path(os.environ.get("WSRPC_AXE", ".web/node_modules/axe-core/axe.min.js"))


async def views(browser: Chromium, url: str) -> AsyncIterator[tuple[str, Page]]:
    """The agreed look, one page after the other."""

    async def opened(method: str, **window: Any) -> Page:
        page = await browser.page(f"{url}#{method}", **{"width": 1280, "height": 800, **window})
        await page.until("!!document.querySelector('h1')")
        return page

    for name, dark in (("light-1280", False), ("dark-1280", True)):
        page = await opened("Writer.stream_tokens", dark=dark)
        await page.key("Enter", "Control")
        await page.until("document.querySelector('.live .text')?.innerText.length > 60")
        await page.click("#cut")
        await page.until_says("#state", "resumed 1×")
        await page.until("document.querySelector('.live .text')?.innerText.length > 200")
        yield name, page
    page = await opened("Writer.stream_tokens", width=390, height=844, scale=2)
    await page.click("button.primary")
    await page.until("document.querySelector('.live .text')?.innerText.length > 60")
    await page.run("document.querySelector('.live').scrollIntoView({block: 'center'})")
    yield "phone-390", page
    page = await opened("Writer.delete_everything", dark=True)
    await page.key("Enter", "Control")
    await page.until_says(".ask", "Page.ask")
    yield "ask-dark", page
    page = await opened("Writer.stream_tokens")
    await fill(page, "words", "900")
    await page.key("Enter", "Control")
    await page.until("!!document.querySelector('.out.bad')")
    await page.run("document.querySelector('#t-code').click()")
    yield "wrong-light", page
    page = await opened("Forms.pets?%7B%22pets%22%3A%5B%7B%22kind%22%3A%22cat%22%7D%5D%7D")
    await page.run("document.querySelector('#t-history').click()")
    yield "forms-light", page


@pytest.mark.slow
async def test_each_view_is_pictured_and_none_has_a_fault_for_screen_readers() -> None:
    shots = os.environ.get("WSRPC_SHOTS")
    with anyio.fail_after(170):
        async with showcase().listen() as listener, chromium() as browser:
            async for name, page in views(browser, listener.http_url):
                if shots:
                    picture = await page.screenshot()
                    await anyio.Path(shots).mkdir(parents=True, exist_ok=True)
                    await anyio.Path(shots, f"{name}.png").write_bytes(picture)
                assert page.messages == [], name
                wide = await page.run("document.documentElement.scrollWidth <= innerWidth")
                assert wide, f"{name} scrolls sideways"
                if not await AXE.exists():
                    missing("no axe-core: npm install --no-package-lock --prefix .web axe-core")
                axe = await AXE.read_text(encoding="utf-8")
                await page.run(f"(() => {{ {axe} }})()")
                faults = await page.run(
                    """axe.run().then((found) => found.violations.map((one) =>
                        `${one.id}: ${one.nodes.map((n) => n.html.slice(0, 120)).join(' | ')}`))"""
                )
                assert faults == [], name


@pytest.mark.slow
async def test_the_page_follows_a_server_that_comes_back_with_other_methods() -> None:
    class Old:
        controller_name = "Shop"

        @wsrpc.method
        async def buy(self, what: str) -> str:
            return what

    class New(Old):
        @wsrpc.method
        async def sell(self, what: str) -> str:
            return what

    with anyio.fail_after(120):
        async with chromium() as browser:
            async with wsrpc.Server([Old()], explorer=True).listen() as listener:
                port = int(listener.url.rpartition(":")[2].rstrip("/"))
                page = await browser.page(listener.http_url)
                await page.until_says("h1", "Shop.buy")
                await fill(page, "what", "bread")
            async with wsrpc.Server([New()], explorer=True).listen(port=port):
                await page.run("window.dispatchEvent(new Event('online'))")
                await page.until_says("#tree", "sell")
                await page.until("document.querySelector('main input')?.value === 'bread'")
                assert await page.run("document.querySelector('h1').innerText") == "Shop.buy"
                await page.key("Enter", "Control")
                assert "bread" in await outcome(page, "result")


@pytest.mark.slow
async def test_a_draining_server_is_told_in_a_sentence() -> None:
    async with explored("Interop.count?%7B%22n%22%3A400%2C%22delay%22%3A0.05%7D", quiet=False) as (
        page,
        server,
    ):
        await page.key("Enter", "Control")
        await page.until("document.querySelectorAll('.items li').length > 3")
        async with anyio.create_task_group() as group:
            group.start_soon(server.drain)
            await page.until_says("#notice", "The server is about to stop")
            await press(page, "Stop", ".bar")
            await outcome(page, "stopped")
            group.cancel_scope.cancel()


@pytest.mark.slow
async def test_the_methods_are_a_sheet_on_a_phone_and_the_question_is_a_banner() -> None:
    async with explored("Writer.delete_everything", width=390, height=844) as (page, _):
        assert not await page.run("document.querySelector('nav').checkVisibility()")
        await page.click("#sheet")
        await page.until("document.querySelector('nav').checkVisibility()")
        await page.type("delete")
        await page.key("Enter")
        await page.until("!document.querySelector('nav').checkVisibility()")
        await page.until_says("h1", "delete_everything")
        await page.click("button.primary")
        await page.until_says("#banner", "The server asks: Page.ask")
        await page.click("#banner")
        await press(page, "No", ".ask")
        assert '"kept"' in await outcome(page, "result")


@pytest.mark.slow
async def test_no_control_does_nothing() -> None:
    """Every control that can be pressed has a visible effect."""
    async with explored("Writer.greet?%7B%22name%22%3A%22Ada%22%7D") as (page, _):
        before = await page.run("getComputedStyle(document.body).backgroundColor")
        await page.click("#theme")
        await page.until(f"getComputedStyle(document.body).backgroundColor !== {before!r}")
        for opener in ("#keys", "#auth"):
            await page.click(opener)
            await page.until("document.querySelector('#dialog').open")
            await page.key("Escape")
            await page.until("!document.querySelector('#dialog').open")
        for tab in ("history", "code", "asked", "frames"):
            await page.run("document.activeElement.blur()")
            await page.key("]")
            await page.until(f"!document.querySelector('#{tab}').hidden")
        await page.run("document.querySelector('#edge').focus()")
        width = await page.run("document.querySelector('aside').offsetWidth")
        await page.key("ArrowLeft")
        await page.until(f"document.querySelector('aside').offsetWidth > {width}")
        await page.run("document.querySelector('.options summary').click()")
        await page.until("document.querySelector('.options').open")
        await page.run("document.querySelector('.returns summary').click()")
        await page.until("document.querySelector('.returns pre').checkVisibility()")
        await page.run("document.querySelector('#tree summary').click()")
        await page.until("!document.querySelector('#tree details').open")
        disabled = await page.run("document.querySelectorAll('[disabled]').length")
        assert disabled == 0


HELD = "document.activeElement !== document.body && document.activeElement.checkVisibility()"


async def press_by_key(page: Page, selector: str) -> None:
    """Press a control as a person without a mouse does."""
    await page.until(
        f"""(() => {{
            const one = document.querySelector({json.dumps(selector)});
            one?.focus();
            return !!one && document.activeElement === one;
        }})()"""
    )
    await page.key("Enter")


@pytest.mark.slow
async def test_the_focus_is_never_lost_with_the_control_that_had_it() -> None:
    async def pressed(selector: str, then: str) -> None:
        await press_by_key(page, selector)
        await page.until(then)
        await page.until(HELD)

    gone = "!document.querySelector({!r})".format
    async with explored("Interop.sum") as (page, _):
        await press_by_key(page, "#method .primary")
        await page.until("!!document.querySelector('.sender')")
        await pressed(".sender .go button:nth-child(2)", gone(".sender .go"))
        await page.run(f"location.hash = {link('Interop.forever', {'delay': 0.01})!r}")
        await page.until_says("h1", "forever")
        for _ in range(2):
            await press_by_key(page, "#method .primary")
            await pressed(".live .top > .quiet:last-child", gone(".live"))
        await page.run("document.querySelector('#t-code').click()")
        await press_by_key(page, "#method .primary")
        await page.until("!!document.querySelector('.live')")
        await page.run("document.querySelector('#code button').focus()")
        await page.run("document.querySelector('.live .top > .quiet:last-child').click()")
        await page.until(gone(".live"))
        assert await page.run("document.activeElement.closest('#code') !== null")
        for left in (3, 2, 1, 0):
            await pressed(
                ".out [aria-label^=Dismiss]", f"document.querySelectorAll('.out').length === {left}"
            )
        await page.run("document.querySelector('#t-history').click()")
        await pressed("#history .tools button", "!!document.querySelector('#calls .empty')")
        await page.run(f"location.hash = {link('Forms.pets', {'pets': [{'kind': 'cat'}] * 2})!r}")
        await page.until("document.querySelectorAll('.row').length === 2")
        await pressed(".row [aria-label^=remove]", "document.querySelectorAll('.row').length === 1")
        prompt = {"topic": "a", "words": 7}
        await page.run(f"location.hash = {link('Writer.stream_tokens', {'prompt': prompt})!r}")
        await page.until("!!document.querySelector('.link:not([hidden])')")
        await pressed(
            ".link:not([hidden])", "!document.querySelector('#method .link:not([hidden])')"
        )
        await page.run("location.hash = 'Forms.large'")
        await page.until_says("h1", "large")
        await press_by_key(page, "#method .primary")
        await pressed(
            "#results .inside > .quiet",
            "document.querySelectorAll('.inside > details').length > 900",
        )
        await page.run("document.querySelector('#t-asked').click()")
        await page.run("document.querySelector('.rule input').focus()")
        await page.type("Page.ask")
        await page.run("document.querySelector('.rule input:nth-child(2)').focus()")
        await page.type("true")
        await page.key("Enter")
        await pressed("[aria-label^='ask again']", gone("[aria-label^='ask again']"))
        await pressed("#cut", "document.querySelector('#state').dataset.state !== 'open'")
        await page.until("document.querySelector('#state').dataset.state === 'open'")
        await page.run("document.querySelector('#state').click()")
        await press(page, "Close the session")
        await page.until_says("#notice", "closed")
        await pressed("#notice button", "document.querySelector('#state').dataset.state === 'open'")


@pytest.mark.slow
async def test_a_new_session_leaves_a_form_as_it_is_unless_its_method_has_changed() -> None:
    class Old:
        controller_name = "Shop"

        @wsrpc.method
        async def buy(self, what: str, how_many: int = 1) -> str:
            return what

    class More(Old):
        @wsrpc.method
        async def sell(self, what: str) -> str:
            return what

    class Other(Old):
        @wsrpc.method
        async def buy(self, what: str, how_many: int = 1, when: str = "now") -> str:
            return what

    async def back(page: Page, words: str) -> None:
        await page.run("window.dispatchEvent(new Event('online'))")
        await page.until_says("main" if words == "when" else "#tree", words)

    with anyio.fail_after(120):
        async with chromium() as browser:
            async with wsrpc.Server([Old()], explorer=True).listen() as listener:
                port = int(listener.url.rpartition(":")[2].rstrip("/"))
                page = await browser.page(listener.http_url)
                await page.until_says("h1", "Shop.buy")
                await page.run("document.querySelector('.options summary').click()")
                await fill(page, "key", "k1")
                await fill(page, "what", "bread")
                await page.run("document.activeElement.setSelectionRange(2, 2)")
                await page.run("void (window.had = document.activeElement)")
            async with wsrpc.Server([More()], explorer=True).listen(port=port):
                await back(page, "sell")
                assert await page.run("document.activeElement === window.had")
                await page.type("!")
                assert await page.run("window.had.value") == "br!ead"
                assert await page.run("document.querySelector('.options').open")
                marked = "document.querySelector('#tree [aria-current]').innerText"
                assert await page.run(marked) == "buy"
            async with wsrpc.Server([Other()], explorer=True).listen(port=port):
                await back(page, "when")
                assert await page.run("document.activeElement !== window.had")
                assert await page.run("document.activeElement.value") == "br!ead"


@pytest.mark.slow
async def test_rows_stand_under_their_numbers_after_one_was_removed() -> None:
    class Line(BaseModel):
        dozen: Annotated[int, Field(multiple_of=12)]

    class Order(BaseModel):
        lines: list[Line]

    class Shop:
        @wsrpc.method
        async def order(self, orders: list[Order]) -> int:
            return len(orders)

    given = link("Shop.order", {"orders": [{"lines": [{"dozen": n}]} for n in (12, 24, 25)]})
    async with explored(given, server=wsrpc.Server([Shop()], explorer=True)) as (page, _):
        rows = "[...document.querySelectorAll('.rows:has(.rows) > .row')]"
        await page.until(f"{rows}.length === 3")
        await page.run(f"{rows}[0].querySelector(':scope > [aria-label^=remove]').click()")
        numbers = f"{rows}.map((row) => row.querySelector('legend > :first-child').innerText)"
        assert await page.run(numbers) == ["1", "2"]
        await page.run("document.querySelector('#method .primary').click()")
        await page.until("!!document.querySelector('[aria-invalid=true]')")
        assert await page.run("document.activeElement.value") == "25"
        assert "multiple of 12" in await page.run(
            "document.querySelector('.field:has(:focus) .wrong').innerText"
        )


@pytest.mark.slow
async def test_no_control_is_cut_off_at_any_width() -> None:
    cut_off = """[...document.querySelectorAll('main, main button, main input, main select, main textarea')]
        .filter((one) => one.checkVisibility())
        .filter((one) => {
            const { left, right } = one.getBoundingClientRect();
            const main = document.querySelector('main').getBoundingClientRect();
            return left < main.left || right > main.right + 1 || right > innerWidth + 1;
        })
        .map((one) => one.outerHTML)"""
    pets = [{"kind": "dog", "name": "Rex"}, {"kind": "cat"}]
    shown = {
        "import_file": "Writer.import_file",
        "digest": "Forms.digest",
        "scores": link("Forms.scores", {"scores": {"a": 1}}),
        "point": link("Forms.point", {"at": [1, 2]}),
        "pets": link("Forms.pets", {"pets": pets}),
        "bidi_echo": "Interop.bidi_echo",
    }
    async with explored() as (page, _):
        for width in (320, 390, 600, 821, 900, 1000, 1101, 1280):
            await page.look(width=width, height=800)
            for name, address in shown.items():
                await page.run(f"location.hash = {address!r}")
                await page.until(f"document.title.startsWith({name!r})")
                await page.run("document.querySelector('.options').open = true")
                assert await page.run(cut_off) == [], (width, name)
                assert await page.run("document.scrollingElement.scrollWidth <= innerWidth")


@pytest.mark.slow
async def test_a_browser_that_keeps_nothing_shows_the_page_all_the_same() -> None:
    async with explored("Writer.greet", quiet=False) as (page, _):
        await page.send("Page.addScriptToEvaluateOnNewDocument", source="""
            for (const name of ["localStorage", "sessionStorage"])
                Object.defineProperty(window, name, { get() { throw new DOMException("", "SecurityError"); } });
        """)  # fmt: skip
        await page.send("Page.reload")
        await page.until("window.performance.getEntriesByType('navigation')[0].type === 'reload'")
        await page.until_says("main", "Writer.greet")
        await page.run("document.querySelector('#theme').click()")
        await fill(page, "name", "Ada")
        await page.key("Enter")
        assert '"Hello, Ada!"' in await outcome(page, "result")
        await page.run("document.querySelector('#t-history').click()")
        await page.until_says("#calls", "Writer.greet")
        await page.run(
            "document.querySelector('#calls').parentElement.querySelector('input').click()"
        )
        await page.run("document.querySelector('#auth').click()")
        assert await page.run("document.querySelector('#dialog').open")
        assert page.messages == []


@pytest.mark.slow
async def test_no_word_is_cut_where_a_field_is_left_out() -> None:
    cut_off = """[...document.querySelectorAll('.how')].filter((one) => {
        const width = one.offsetWidth;
        one.style.maxWidth = 'none';
        return one.offsetWidth > width;
    }).map((one) => one.value)"""
    async with explored("Forms.tree") as (page, _):
        for width in (390, 1280):
            await page.look(width=width, height=800)
            await page.run("document.querySelector('.options').open = true")
            assert await page.run("document.querySelectorAll('.how').length") > 2
            assert await page.run(cut_off) == []


@pytest.mark.slow
async def test_a_thousand_items_are_shown_and_all_are_counted_and_can_be_saved() -> None:
    async with explored("Interop.count?%7B%22n%22%3A1500%7D") as (page, _):
        await page.run(
            """(() => {
                const make = URL.createObjectURL;
                URL.createObjectURL = (blob) => ((window.saved = blob), make.call(URL, blob));
                HTMLAnchorElement.prototype.click = () => {};
            })()"""
        )
        await page.key("Enter", "Control")
        assert "1,500 items" in await outcome(page, "ended")
        assert await page.run("document.querySelectorAll('.items li').length") == 1000
        await press(page, "Download", ".out")
        saved = await page.run("window.saved.text()")
        assert [json.loads(line) for line in saved.splitlines()] == list(range(1500))


@pytest.mark.slow
async def test_window_policy_and_metadata_are_options_of_a_call() -> None:
    async with explored("Interop.count?%7B%22n%22%3A3%7D") as (page, _):
        await page.run("document.querySelector('.options').open = true")
        await fill(page, "window", "2")
        await page.run("document.querySelector('.options .how').value = 'value'")
        await page.run("document.querySelector('.options .how').dispatchEvent(new Event('change'))")
        await press(page, "Add", ".options")
        await page.type("tenant")
        await page.key("Tab")
        await page.type("north")
        await page.key("Enter", "Control")
        await outcome(page, "ended")
        frames = await transcript(page)
        (call,) = [line for line in frames.splitlines() if "Interop.count" in line and "C:" in line]
        options = json.loads(call.partition(": ")[2])[0][4]
        assert options["credit"] == 2
        assert options["metadata"] == {"tenant": "north"}


@pytest.mark.slow
async def test_a_long_text_keeps_its_end_and_the_page_its_pace() -> None:
    class Verbose:
        @wsrpc.method
        async def talk(self, n: int) -> AsyncIterator[str]:
            for i in range(n):
                yield f"word {i} "

    server = wsrpc.Server([Verbose()], explorer=True)
    async with explored("Verbose.talk?%7B%22n%22%3A30000%7D", server=server) as (page, _):
        await page.key("Enter", "Control")
        assert "30,000 items" in await outcome(page, "ended")
        text = await page.run("document.querySelector('.text').textContent")
        assert text.endswith("word 29999 ")
        assert len(text) <= 250_000
