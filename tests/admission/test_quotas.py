"""Bounds on links that were let in, without sockets."""

from __future__ import annotations

import pytest

from wsrpc.admission.principals import Identity
from wsrpc.admission.quotas import Quotas
from wsrpc.errors import ProtocolError
from wsrpc.limits import Limits

ANN, BOB = Identity("ann"), Identity("bob")

BOUNDS = ["max_links", "max_links_per_principal", "max_links_per_address"]


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_link_that_takes_over_from_another_of_its_session_finds_room_where_all_is_full(
    bound: str,
) -> None:
    quotas = Quotas(Limits(**{bound: 2}))
    first = quotas.enter(ANN, "1.1.1.1", resumes=False, replaces=False)
    quotas.enter(ANN, "1.1.1.1", resumes=False, replaces=False)
    with pytest.raises(ProtocolError):
        quotas.enter(ANN, "1.1.1.1", resumes=True, replaces=False)
    quotas.enter(ANN, "1.1.1.1", resumes=True, replaces=True)
    first.leave()
    with pytest.raises(ProtocolError):
        quotas.enter(ANN, "1.1.1.1", resumes=False, replaces=False)


def test_a_resume_for_which_there_is_no_room_may_come_again_and_a_new_session_may_not() -> None:
    quotas = Quotas(Limits(max_links=3, max_links_per_principal=1, max_links_per_address=2))
    quotas.enter(ANN, "1.1.1.1", resumes=False, replaces=False)
    quotas.enter(BOB, "1.1.1.1", resumes=False, replaces=False)
    for who, address in ((ANN, "1.1.1.2"), (Identity(None), "1.1.1.1")):
        for resumes, code in ((True, 1013), (False, 4504)):
            with pytest.raises(ProtocolError) as caught:
                quotas.enter(who, address, resumes=resumes, replaces=False)
            assert caught.value.close_code == code
    quotas.enter(Identity(None), "1.1.1.2", resumes=False, replaces=False)
    with pytest.raises(ProtocolError) as caught:
        quotas.enter(Identity(None), "1.1.1.3", resumes=False, replaces=False)
    assert caught.value.close_code == 1013, "the server itself is full"


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_link_that_leaves_makes_room_for_one(bound: str) -> None:
    quotas = Quotas(Limits(**{bound: 1}))
    for _ in range(3):
        visit = quotas.enter(ANN, "2001:db8::1", resumes=False, replaces=False)
        with pytest.raises(ProtocolError):
            quotas.enter(ANN, "2001:db8::2", resumes=False, replaces=False)
        visit.leave()
