"""The client and the explorer in WebKit, where there is one."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from wsrpc.interop.service import interop_server

from ..support import Codec
from . import test_example, test_explorer, test_sleep
from .page import outlives_cuts, passes_the_interop_service
from .relay import Relay, relay
from .webkit import Page, display, require_webkit, started, webkit

pytestmark = [pytest.mark.web, pytest.mark.slow]


@pytest.fixture
def anyio_backend() -> str:
    # It is the client that is tested; the examples' tests are asyncio's.
    return "asyncio"


@pytest.fixture(autouse=True)
def browser_is_there() -> None:
    require_webkit()


@asynccontextmanager
async def in_webkit() -> AsyncIterator[tuple[Page, Relay]]:
    """A page of the interop server, and the relay by which it gets there."""
    async with (
        interop_server().listen(port=0) as listener,
        relay(listener.url) as carrier,
        webkit() as browser,
    ):
        yield await browser.page(carrier.url), carrier


async def test_the_client_passes_the_interop_service_in_webkit(codec: Codec) -> None:
    with anyio.fail_after(400):
        async with in_webkit() as (page, _):
            await passes_the_interop_service(page, codec)


async def test_cuts_lose_double_and_reorder_nothing_in_webkit(codec: Codec) -> None:
    with anyio.fail_after(200):
        async with in_webkit() as (page, carrier):
            await outlives_cuts(page, carrier, codec, 8, seed=4)


# Tests of what a person sees and can do, written for Chromium, which use nothing that only it has.
FLOWS: list[Callable[..., Awaitable[None]]] = [
    test_explorer.test_a_person_without_a_mouse_finds_a_method_calls_it_and_stops_it,
    test_explorer.test_a_call_shows_its_result_and_keeps_earlier_ones,
    test_explorer.test_pause_stops_consuming_until_the_server_waits,
    test_explorer.test_a_cut_is_shown_and_the_stream_goes_on,
    test_explorer.test_staying_away_lets_items_wait_at_the_server,
    test_explorer.test_invalid_arguments_are_told_at_their_fields,
    test_explorer.test_integers_beyond_2_to_the_53_go_as_they_were_typed,
    test_explorer.test_arguments_go_into_the_form_and_come_out_the_same,
    test_explorer.test_a_secret_is_typed_in_dots_and_shown_nowhere,
    test_explorer.test_a_file_is_uploaded_and_its_callback_is_shown,
    test_explorer.test_an_upload_goes_item_by_item_and_ends_by_hand,
    test_explorer.test_the_server_asks_and_a_person_answers,
    test_explorer.test_a_refused_question_fails_and_a_cancelled_one_leaves,
    test_explorer.test_frames_fold_open_filter_and_copy,
    test_explorer.test_a_recording_is_shown_as_frames_that_pass_are,
    test_explorer.test_history_restores_the_form,
    test_explorer.test_large_results_and_bytes_are_shown_in_parts,
    test_explorer.test_credentials_are_asked_for_when_the_server_wants_them,
    test_explorer.test_a_closed_session_can_be_begun_again,
    test_explorer.test_each_view_is_pictured_and_none_has_a_fault_for_screen_readers,
    test_explorer.test_the_methods_are_a_sheet_on_a_phone_and_the_question_is_a_banner,
    test_explorer.test_no_control_does_nothing,
    test_explorer.test_the_focus_is_never_lost_with_the_control_that_had_it,
    test_explorer.test_no_control_is_cut_off_at_any_width,
    test_explorer.test_no_word_is_cut_where_a_field_is_left_out,
    test_explorer.test_a_thousand_items_are_shown_and_all_are_counted_and_can_be_saved,
    test_sleep.test_a_hidden_page_goes_on_and_comes_back_at_once,
    test_sleep.test_a_page_that_may_come_back_is_detached_at_once_and_goes_on_when_it_does,
    test_sleep.test_a_page_that_is_loaded_again_begins_a_new_session,
    test_example.test_the_seed_in_a_page,
    test_example.test_a_stream_fetcher_of_the_page_fetches_once_and_gives_twice,
    test_example.test_a_page_chats_with_a_model_stops_approves_and_renews_its_token,
    test_example.test_a_dashboard_draws_the_same_prices_for_the_quick_the_slow_and_the_late,
]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__.removeprefix("test_"))
async def test_webkit_shows_what_chromium_shows(
    flow: Callable[..., Awaitable[None]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (test_explorer, test_sleep, test_example):
        monkeypatch.setattr(module, "chromium", webkit)
    given: dict[str, Any] = {"tmp_path": tmp_path}
    await flow(**{name: given[name] for name in inspect.signature(flow).parameters})


@asynccontextmanager
async def printing(url: str, said: Path) -> AsyncIterator[None]:
    """A browser without WebDriver, which prints what goes to the console, to stderr."""
    parts = require_webkit()
    command = (parts.browser, "--enable-write-console-messages-to-stdout=TRUE", url)
    with said.open("wb") as file:
        async with (
            display(parts.display) as environment,
            started(*command, env=environment, stderr=file.fileno()),
        ):
            yield


async def test_the_explorer_leaves_the_console_empty_while_it_loads_in_webkit(
    tmp_path: Path,
) -> None:
    said = tmp_path / "said"
    server = test_explorer.showcase()
    with anyio.fail_after(120):
        async with printing("data:text/html,<script>console.log(1)</script>", said):
            while "CONSOLE LOG" not in said.read_text():
                await anyio.sleep(0.02)
        async with server.listen() as listener, printing(listener.http_url, said):
            # It is there when it has been told what the server offers.
            while server.stats.calls_peak == 0 or server.stats.calls_live > 0:
                await anyio.sleep(0.02)
        assert "CONSOLE" not in said.read_text()


@pytest.mark.rule("BROWSER-4")
async def test_a_page_that_is_closed_in_webkit_ends_its_session() -> None:
    server = interop_server()
    with anyio.fail_after(120):
        async with server.listen(port=0) as listener, relay(listener.url) as carrier:
            async with webkit() as browser:
                page = await browser.page(carrier.url)
                await page.run(
                    """(async () => {
                        const client = await import("/wsrpc.js");
                        const session = client.connect(".");
                        await session.clientize("Interop").count({ n: 1000, delay: 1 }).next();
                    })()"""
                )
                assert server.snapshot().calls_live == 1
                await page.close()
                while server.snapshot().sessions:
                    await anyio.sleep(0.02)
                assert server.snapshot().closes == {1000: 1}
