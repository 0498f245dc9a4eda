"""Whether the built-in relay belongs in the map that clients get, decided from what probes of it found."""

from __future__ import annotations

from dataclasses import dataclass, replace

FAILURES = 3
"""In a row before the relay is withdrawn: one may be a restart of a proxy, two its bad luck."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the relay, from where the server stands."""

    error: str
    """Why a packet did not come back through the URL that clients use; empty: it did."""
    clients_arrived: bool
    """Clients other than our own probes have connected since the last look."""
    others_answer: bool
    """Another region of the map has a relay that works, seen from here."""


@dataclass(frozen=True, slots=True)
class RelayHealth:
    """What is held of the relay."""

    error: str = ""
    failures: int = 0
    """In a row."""
    ever_reached: bool = False
    clients_arrive: bool = False
    others_answer: bool = False

    @property
    def listed(self) -> bool:
        """Whether the relay is in the map.

        It is taken out only when it worked before, clients do not reach it either, and they have another one to go
        to: a server behind a NAT may not reach its own URL though everyone else does, and a bad relay is better than
        none.
        """
        return self.failures < FAILURES or not self.ever_reached or not self.others_answer

    @property
    def summary(self) -> str:
        """Say it in a sentence."""
        if not self.error:
            return "the relay works"
        if self.clients_arrive:
            return f"clients reach the relay, the server itself does not through its access URL ({self.error})"
        if not self.ever_reached:
            return (
                f"the server has never reached its relay through its access URL ({self.error}); "
                "it stays in the map, since clients may be in a better place"
            )
        if not self.listed:
            return f"the relay is out of the map: {self.error}"
        if self.failures < FAILURES:
            return (
                f"the relay did not answer ({self.error}); {self.failures} of {FAILURES} times before it is taken out"
            )
        return f"the relay does not answer ({self.error}); it stays in the map, since no other relay answers either"


def observe(health: RelayHealth, seen: Observation) -> RelayHealth:
    """Take a look into account."""
    if not seen.error:
        return RelayHealth(ever_reached=True)
    if seen.clients_arrived:
        return replace(health, error=seen.error, failures=0, clients_arrive=True, others_answer=seen.others_answer)
    return replace(
        health,
        error=seen.error,
        failures=health.failures + 1,
        clients_arrive=False,
        others_answer=seen.others_answer,
    )
