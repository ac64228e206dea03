"""What has happened to a job: kept with it, in order, and bounded."""

import json

from puppetmaster.model.job import Job
from puppetmaster.model.timeline import FIRST, ITSELF, LATEST, Event, What, with_event
from puppetmaster.model.why import Said
from tests.examples import a_job

AT = "2026-01-02T03:04:05.678Z"


def test_an_event_is_what_it_was_after_it_was_stored() -> None:
    for why in (None, Said("because", "gate"), Said("of an earlier version", None)):
        event = Event(3, AT, What.WAVE_OPENED, "bob", "dispatching", 2, why)
        again = Event.from_document(json.loads(json.dumps(event.document())))
        assert again == event
        assert again.view() == event.view()
    assert event.view() == {
        "number": 3,
        "at": AT,
        "event": "waveOpened",
        "by": "bob",
        "status": "dispatching",
        "wave": 2,
        "why": "of an earlier version",
        "whyCode": None,
    }


def test_the_first_and_the_latest_are_kept() -> None:
    job = a_job()
    for _ in range(FIRST + LATEST + 7):
        job = job.noted(What.PAUSED, AT, by="ann")
    numbers = [event.number for event in job.events]
    assert numbers == [*range(1, FIRST + 1), *range(FIRST + 8, FIRST + LATEST + 8)]
    assert len(with_event((), job.events[0])) == 1


def test_a_job_of_an_earlier_version_has_no_events_and_nobody_who_created_it() -> None:
    document = {
        name: value for name, value in a_job().document().items() if name not in ("events", "createdBy")
    }
    job = Job.from_document(1, document)
    assert (job.events, job.created_by, job.view()["createdBy"]) == ((), None, None)
    (event,) = job.noted(What.ENDED, AT).events
    assert (event.number, event.by) == (1, ITSELF)
