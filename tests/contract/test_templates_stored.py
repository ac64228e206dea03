"""What a store promises about templates, whichever implementation keeps them."""

from dataclasses import replace

from puppetmaster.model.template import Overlap, Record, Schedule, Template
from puppetmaster.store.base import Changes, Store
from tests.contract.conftest import Open, both
from tests.stored import creation

JOB = {"batch": [{"method": "get", "resource": "/a", "__request": {"destination": {"all": True}}}]}
NIGHTLY = Template(
    id=1,
    name="nightly",
    job=JOB,
    schedule=Schedule(cron="0 3 * * 1-5", timezone="Europe/Berlin", overlap=Overlap.QUEUE),
    record=Record(decided_s=1.5, queued_s=0.5, last_job=7, last={"outcome": "queued"}, counts={"queued": 1}),
)
BY_HAND = Template(id=2, name="by hand", job=JOB, record=Record(decided_s=0.0))


def put(*templates: Template) -> Changes:
    return Changes(templates={one.id: one for one in templates})


def test_a_template_is_there_until_it_is_changed_or_removed(store: Store, open_store: Open) -> None:
    store.commit(put(BY_HAND, NIGHTLY))
    for current in both(store, open_store):
        with current.reading() as reader:
            for one in (reader, current.now):
                assert list(one.template_ids()) == [1, 2]
                assert (one.template(1), one.template(2), one.template(3)) == (NIGHTLY, BY_HAND, None)
                assert (one.template_named("by hand"), one.template_named("By hand")) == (BY_HAND, None)
    changed = replace(NIGHTLY, name="evening", schedule=None)
    current.commit(replace(put(changed), removed_templates={2, 5}))
    now = open_store().now
    assert (list(now.template_ids()), now.template(1)) == ([1], changed)
    assert (now.template_named("nightly"), now.template_named("evening")) == (None, changed)


def test_a_job_is_found_by_its_template(store: Store) -> None:
    for number, template in ((1, 3), (2, None), (3, 3), (4, 4)):
        store.commit(creation(number, template=template))
    with store.reading() as reader:
        assert [job.id for job in reader.jobs({"template": 3})] == [3, 1]
        assert list(reader.job_ids({"template": 4, "status": "dispatching"})) == [4]
        assert list(reader.job_ids({"template": 3, "destination": "cg-1"})) == [3, 1]
        assert reader.job(3) == creation(3, template=3).jobs[3]
