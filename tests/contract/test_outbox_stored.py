"""What a store promises about what webhooks are owed, whichever implementation keeps it."""

import pytest

from puppetmaster.errors import StoreError
from puppetmaster.model.notice import Notice, Owed
from puppetmaster.store.base import Changes, Store
from tests.contract.conftest import Open, both
from tests.examples import AT
from tests.stored import creation

NOTICE = Notice("job-1-3", "puppetmaster.job.ended", "/jobs/1", AT, {"job": {"id": 1, "name": "a\u00e4"}})
FIRST, SECOND = Owed(1, "ops", NOTICE), Owed(2, "lab", NOTICE, 5)


def owing(*owed: Owed) -> Changes:
    return Changes(owed={one.id: one for one in owed})


def test_what_is_owed_is_there_until_it_was_told(store: Store, open_store: Open) -> None:
    assert store.now.owed() == []
    store.commit(owing(SECOND))
    store.commit(owing(FIRST))
    store.commit(owing(FIRST._replace(attempts=1)))
    for current in both(store, open_store):
        with current.reading() as reader:
            assert reader.owed() == current.now.owed() == [FIRST._replace(attempts=1), SECOND]
    current.commit(Changes(told={1, 99}))
    assert open_store().now.owed() == [SECOND]


def test_it_is_not_removed_with_its_job(store: Store) -> None:
    made = creation(1)
    store.commit(made)
    store.commit(owing(FIRST))
    store.commit(Changes(deleted={1: made.jobs[1]}))
    while store.sweep():
        pass
    assert store.now.owed() == [FIRST]


def test_all_of_a_commit_or_nothing(store: Store) -> None:
    changes = creation(1)
    changes.owed[1] = FIRST._replace(notice=NOTICE._replace(data={"job": object()}))
    with pytest.raises((StoreError, TypeError)):
        store.commit(changes)
    assert (store.now.owed(), store.now.jobs({})) == ([], [])
