"""The lease: one leader, no shared clock, and a leader that stops by itself."""

from __future__ import annotations

import copy

from oikyo.controller.cluster import BusyError, ConflictError, NotFoundError
from oikyo.controller.kinds import Object
from oikyo.controller.lease import LEASE_SECONDS, RENEW_SECONDS, Lease


class Server:
    """Keeps one Lease as the API server does: optimistic locking, and outages on demand."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.down = False
        self.writes = 0

    async def keep_lease(self, verb: str, path: str, body: Object | None = None) -> Object:
        if self.down:
            raise BusyError("down")
        if verb == "get":
            if self.lease is None:
                raise NotFoundError("no lease")
            return copy.deepcopy(self.lease)
        assert body is not None
        known = None if self.lease is None else self.lease["metadata"]["resourceVersion"]
        if body["metadata"].get("resourceVersion") != known:
            raise ConflictError("somebody was faster")
        self.writes += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(int(known or 0) + 1)
        return copy.deepcopy(self.lease)

    @property
    def holder(self) -> str:
        return "" if self.lease is None else str(self.lease["spec"]["holderIdentity"])


class Clock:
    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def replica(server: Server, name: str, clock: Clock) -> Lease:
    return Lease(server, "ns", "lease", name, clock)  # type: ignore[arg-type]


async def test_the_first_holds_it_and_the_second_does_not() -> None:
    server, clock = Server(), Clock(0)
    first, second = replica(server, "first", clock), replica(server, "second", clock)
    await first._try()
    await second._try()
    assert (first.held(), second.held()) == (True, False)
    assert server.holder == "first"


async def test_a_silent_leader_is_replaced_after_the_lease_and_never_overlaps() -> None:
    server = Server()
    old, new = Clock(1000.0), Clock(5.0)  # two machines whose clocks have nothing in common
    first, second = replica(server, "first", old), replica(server, "second", new)
    await first._try()
    elapsed = 0.0
    while not second.held():
        await second._try()
        assert not (first.held() and second.held()), f"two leaders after {elapsed} s"
        for clock in (old, new):
            clock.at += 1
        elapsed += 1
        assert elapsed < LEASE_SECONDS + 3
    assert elapsed >= LEASE_SECONDS
    await first._try()
    assert not first.held()
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 1


async def test_a_leader_that_cannot_renew_stops_before_anyone_may_follow() -> None:
    server, clock = Server(), Clock(0)
    leader = replica(server, "first", clock)
    await leader._try()
    server.down = True
    clock.at = RENEW_SECONDS - 0.1
    await leader._try()
    assert leader.held()
    clock.at = RENEW_SECONDS
    assert not leader.held()
    assert RENEW_SECONDS < LEASE_SECONDS


async def test_a_leader_that_slept_does_not_write_over_its_successor() -> None:
    server, clock = Server(), Clock(0)
    first, second = replica(server, "first", clock), replica(server, "second", clock)
    await first._try()
    await second._try()
    clock.at = LEASE_SECONDS + 1
    await second._try()
    assert second.held()
    await first._try()
    assert not first.held()
    assert server.holder == "second"


async def test_a_released_lease_is_taken_at_once() -> None:
    server, clock = Server(), Clock(0)
    first, second = replica(server, "first", clock), replica(server, "second", clock)
    await first._try()
    await second._try()
    await first.release()
    assert not first.held()
    await second._try()
    assert second.held()


async def test_a_renewal_of_another_starts_the_wait_anew() -> None:
    server, clock = Server(), Clock(0)
    first, second = replica(server, "first", clock), replica(server, "second", clock)
    for _ in range(30):
        await first._try()
        await second._try()
        assert not second.held()
        clock.at += 2
