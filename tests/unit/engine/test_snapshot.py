"""How the engine stands, in figures: what health and metrics show."""

from puppetmaster.scheduling.window import FIRST
from puppetmaster.store.base import LAST_REQUEST_ID
from tests.virtual import World, body, one_model


def test_it_shows_what_is_open_in_flight_refused_and_sent_again(world: World) -> None:
    world.owners = one_model
    job = world.create(body("post", "a", "b"))
    world.run(world.refused(job.first))
    world.advance(5)
    now = world.engine.snapshot()
    assert (now.open_jobs, now.open_requests, now.in_flight) == (1, 2, 1)
    assert (now.refusals, now.resent) == ({423: 1}, 1)
    assert 0 < now.ids_left < LAST_REQUEST_ID - job.first
    assert (now.window, now.owners) == (FIRST, {"/remote/+": (2, 1)})
    world.run(world.answered(world.last(job.first).message))
    assert (now.open_requests, now.in_flight) == (2, 1), "it does not change any more"


def test_it_shows_the_bus_and_the_bridges(world: World) -> None:
    world.run(
        lambda engine: engine.bridge("a", connected=True),
        lambda engine: engine.bridge("b", connected=False),
        lambda engine: engine.refused(presence=True, direct=True),
    )
    now = world.engine.snapshot()
    assert (now.connected, now.away, now.changes) == (1, 1, 2)
    assert (now.unseen, now.route, now.controller_up, now.stalled) == (True, "remote", True, None)
    world.lose_link()
    assert not world.engine.snapshot().controller_up
