"""The choice of the peer that makes room among those not let in yet, without socket or clock."""

from __future__ import annotations

import socket
import sys

import anyio
import pytest

from tests.support import turns
from wsrpc.admission.handshakes import PATIENCE, Pending, PendingLinks
from wsrpc.admission.principals import Identity
from wsrpc.limits import Limits


class Crowd:
    """Pending links by name, and who of them had to go."""

    def __init__(self, most: int, each: int = 1000) -> None:
        limits = Limits(max_unauthenticated=most, max_unauthenticated_per_address=each)
        self.links = PendingLinks(limits)
        self.gone: list[str] = []
        self.now = 0.0

    def come(self, name: str, address: str = "") -> Pending | None:
        return self.links.add(address, self.now, dismiss=lambda: self.gone.append(name))


class Closed:
    def fileno(self) -> int:
        return -1


def test_in_a_rush_the_newcomer_has_to_come_again() -> None:
    crowd = Crowd(2)
    assert crowd.come("a", "1.1.1.1")
    assert crowd.come("b", "1.1.1.2")
    assert crowd.come("c", "1.1.1.3") is None
    assert not crowd.gone
    assert len(crowd.links) == 2


def test_who_has_kept_the_server_waiting_makes_room_the_oldest_first() -> None:
    crowd = Crowd(2)
    for name in "ab":
        crowd.come(name, "1.1.1.1")
        crowd.now += PATIENCE
    for name in "cd":
        assert crowd.come(name, "1.1.1.1")
        crowd.now += PATIENCE
    assert crowd.gone == ["a", "b"]
    assert len(crowd.links) == 2


def test_who_waits_for_the_server_never_makes_room() -> None:
    crowd = Crowd(2)
    checked, silent = crowd.come("checked", "1.1.1.1"), crowd.come("silent", "1.1.1.1")
    assert checked
    assert silent
    checked.waits = False
    crowd.now = 100
    assert crowd.come("a", "1.1.1.2")
    assert crowd.gone == ["silent"]
    assert silent.dismissed
    assert not checked.dismissed
    other = crowd.come("b", "1.1.1.2")
    assert other is None
    crowd.links.remove(checked)
    assert crowd.come("b", "1.1.1.2")


@pytest.mark.skipif(sys.platform == "win32", reason="nothing tells how many bytes wait there")
def test_who_has_sent_what_the_server_has_yet_to_read_never_makes_room() -> None:
    crowd = Crowd(1)
    near, far = socket.socketpair()
    with near, far:
        gone = crowd.gone
        assert crowd.links.add("1.1.1.1", 0, socket=near, dismiss=lambda: gone.append("heard"))
        far.send(b"GET /")
        crowd.now = 100
        assert crowd.come("a", "1.1.1.2") is None
        near.recv(100)
        assert crowd.come("b", "1.1.1.2")
        assert gone == ["heard"]


def test_a_crowd_from_one_address_makes_room_for_others_at_once() -> None:
    crowd = Crowd(10)
    for n in range(20):
        crowd.come(f"crowd {n}", "6.6.6.6")
    assert not crowd.gone
    for n in range(4):
        assert crowd.come(f"guest {n}", f"1.1.1.{n}")
    assert crowd.gone == [f"crowd {n}" for n in range(4)]
    # Not beyond what is fair.
    assert crowd.come("one more of them", "6.6.6.6") is None


def test_the_bound_of_an_address_is_its_own() -> None:
    crowd = Crowd(10, each=2)
    for n in range(5):
        crowd.come(f"crowd {n}", "6.6.6.6")
    assert len(crowd.links) == 2
    assert crowd.come("guest", "1.1.1.1")
    crowd.now = PATIENCE
    assert crowd.come("later", "6.6.6.6")
    assert crowd.gone == ["crowd 0"]


def test_what_comes_from_nowhere_counts_in_all_and_by_address_once_that_is_known() -> None:
    crowd = Crowd(10, each=1)
    first, second, third = (crowd.come(name) for name in "abc")
    assert first
    assert second
    assert third
    assert crowd.links.locate(first, "1.1.1.1", 0)
    assert crowd.links.locate(first, "1.1.1.1", 0)
    assert not crowd.links.locate(second, "1.1.1.1", 0)
    assert crowd.links.locate(second, "1.1.1.2", 0)
    assert crowd.links.locate(third, "1.1.1.1", PATIENCE)
    assert crowd.gone == ["a"]
    assert len(crowd.links) == 2


def test_those_whose_socket_is_closed_take_no_room() -> None:
    crowd = Crowd(1)
    dead = crowd.links.add("1.1.1.1", 0, socket=Closed(), dismiss=lambda: crowd.gone.append("?"))
    assert dead in crowd.links
    alive = crowd.come("alive", "1.1.1.1")
    assert alive in crowd.links
    assert dead not in crowd.links
    assert not crowd.gone


def test_removing_twice_does_no_harm() -> None:
    crowd = Crowd(1)
    one = crowd.come("a", "1.1.1.1")
    assert one
    crowd.links.remove(one)
    crowd.links.remove(one)
    assert len(crowd.links) == 0
    assert crowd.come("b", "1.1.1.1")


def test_those_who_are_there_learn_of_a_revocation() -> None:
    crowd = Crowd(2)
    first = crowd.come("a")
    ann = Identity("ann")
    crowd.links.revoke(ann)
    second = crowd.come("b")
    assert first
    assert second
    assert (first.revoked, second.revoked) == ([ann], [])


def test_links_whose_addresses_became_known_are_no_crowd_from_nowhere() -> None:
    crowd = Crowd(4)
    for name in "abcd":
        pending = crowd.come(name)
        assert pending
        assert crowd.links.locate(pending, "1.1.1.1", crowd.now)
    # Otherwise those from nowhere would seem to be as many, and none of them is there to go.
    for name in "efg":
        assert crowd.come(name, f"2.2.2.{name}")
    assert crowd.gone == ["a", "b", "c"]


async def test_a_link_that_is_cancelled_just_before_it_gets_a_place_leaves_it() -> None:
    crowd = Crowd(1)
    first = crowd.come("first", "1.1.1.1")
    assert first
    first.waits = False
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(waits_for_a_place, crowd, "1.1.1.2")
            await turns(10)
            group.cancel_scope.cancel()
            crowd.links.remove(first)
            assert len(crowd.links) == 1, "it does not know yet"
    assert len(crowd.links) == 0
    assert crowd.come("next", "1.1.1.3")


async def test_a_link_whose_address_is_full_holds_up_no_other_in_the_queue() -> None:
    crowd = Crowd(2, each=1)
    first, second = crowd.come("first", "1.1.1.1"), crowd.come("second", "1.1.1.2")
    assert first
    assert second
    first.waits = second.waits = False
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for address in ("1.1.1.1", "1.1.1.3"):
                group.start_soon(waits_for_a_place, crowd, address)
                await turns(10)
            crowd.links.remove(second)
            assert len(crowd.links) == 2, "the second in the queue has the place at once"
            group.cancel_scope.cancel()


async def waits_for_a_place(crowd: Crowd, address: str) -> None:
    await crowd.links.place(address, lambda: crowd.now, dismiss=lambda: None)
    await anyio.sleep_forever()
