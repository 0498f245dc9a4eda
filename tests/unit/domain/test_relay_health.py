from __future__ import annotations

from warren.domain.relay_health import FAILURES, Observation, RelayHealth, observe

GOOD = Observation("", clients_arrived=False, others_answer=False)
ALONE = Observation("connect: refused", clients_arrived=False, others_answer=False)
BAD = Observation("connect: refused", clients_arrived=False, others_answer=True)
CLIENTS = Observation("connect: refused", clients_arrived=True, others_answer=True)


def after(*seen: Observation) -> RelayHealth:
    health = RelayHealth()
    for each in seen:
        health = observe(health, each)
    return health


def test_a_relay_is_listed_before_anyone_has_looked() -> None:
    assert RelayHealth().listed


def test_it_leaves_the_map_after_some_failures_in_a_row_and_returns_with_the_first_success() -> None:
    assert after(GOOD, *[BAD] * (FAILURES - 1)).listed
    gone = after(GOOD, *[BAD] * FAILURES)
    assert not gone.listed
    assert gone.summary == "the relay is out of the map: connect: refused"
    assert after(GOOD, *[BAD] * FAILURES, GOOD).listed
    assert after(GOOD, *[BAD, BAD, GOOD] * 10).listed, "never in a row"


def test_a_server_that_never_reached_its_own_url_stays_and_says_so() -> None:
    health = after(*[BAD] * 100)

    assert health.listed
    assert health.summary.startswith("the server has never reached its relay through its access URL (connect: refused)")


def test_a_bad_relay_is_better_than_none() -> None:
    health = after(GOOD, *[ALONE] * 100)
    assert health.listed
    assert "no other relay answers" in health.summary
    assert not after(GOOD, *[ALONE] * 100, BAD).listed, "another one has come up"
    assert after(GOOD, *[BAD] * 100, ALONE).listed, "and has gone"


def test_clients_that_get_through_prove_more_than_the_server_can() -> None:
    health = after(GOOD, *[BAD] * FAILURES, CLIENTS)
    assert health.listed
    assert health.summary == (
        "clients reach the relay, the server itself does not through its access URL (connect: refused)"
    )


def test_what_has_not_yet_led_to_anything_is_counted_aloud() -> None:
    assert after(GOOD, BAD).summary == (
        f"the relay did not answer (connect: refused); 1 of {FAILURES} times before it is taken out"
    )
    assert after(GOOD).summary == "the relay works"
