"""All open jobs in memory, and the changes that are not on disk yet.

The engine reads and writes here while it decides; the dispatcher commits ``changes``. A request leaves memory
as soon as it is done. What has ended is read from the store when it is asked for.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from puppetmaster.engine.steps import Steps
from puppetmaster.errors import NotFound, Unavailable
from puppetmaster.jsoncodec import memory
from puppetmaster.model.gateway import Relabelled
from puppetmaster.model.job import Job, JobEvent, JobStatus
from puppetmaster.model.message import EncodedCommand
from puppetmaster.model.notice import Owed
from puppetmaster.model.policy import Policy
from puppetmaster.model.request import OPEN, Item, Request, RequestStatus
from puppetmaster.model.timeline import Event, What
from puppetmaster.store.base import LAST_REQUEST_ID, MOST_LEARNED, Changes, Ids, Reader

#: Data of an item up to this size are counted with its requests.
SMALL_BYTES = 4096
#: Message ids for repeated sendings are taken in blocks, so that the counter is written rarely.
ID_BLOCK = 1000


class Commands(dict[int, EncodedCommand]):
    """Item id -> its encoded command. A command is encoded when it is first asked for."""

    def __init__(self, items: Mapping[int, Item], tunnel: str) -> None:
        super().__init__()
        self._items = items
        self._tunnel = tunnel

    def __missing__(self, id_: int) -> EncodedCommand:
        command = self[id_] = EncodedCommand(self._items[id_].command(), self._tunnel)
        return command


@dataclass(slots=True, eq=False)
class OpenJob:
    """A job that has not ended, with all that is needed to go on with it."""

    #: The job, without the ``deltas``.
    job: Job
    #: Its items by id.
    items: dict[int, Item]
    commands: Commands
    policy: Policy
    #: The number of its last event that was in ``State.happened``, or that an earlier process noted.
    told: int = 0
    #: Whether an earlier process began it.
    taken_up: bool = False
    #: Whether its creator has no answer yet; until then no request of it is sent.
    held: bool = False
    #: Whether no maintenance window of it is open; until one is, no request of it is sent.
    shut: bool = False
    #: When its window opens, as ISO 8601; None: not known.
    opens_at: str | None = None
    #: Its requests that are not done, by id.
    requests: dict[int, Request] = field(default_factory=dict)
    #: The order of its requests to each gateway; None: it sends them as it can.
    steps: Steps | None = None
    #: How the number of its requests in each status has changed since ``job``.
    deltas: Counter[RequestStatus] = field(default_factory=Counter)

    @property
    def sends(self) -> bool:
        """Whether requests of this job may be sent."""
        job = self.job
        return not self.held and not self.shut and job.status is JobStatus.DISPATCHING and not job.ending

    @property
    def open_end(self) -> int:
        """The id after that of the last request in the open waves."""
        return self.job.first + self.policy.waves[self.job.wave - 1]


class NewIds(NamedTuple):
    """The ids of a new job and of its first request. Those of the other requests follow."""

    job: int
    first: int


class State:
    """Open jobs and requests by id. One thread uses it: the dispatcher's."""

    def __init__(self, reader: Reader, ids: Ids) -> None:
        self.changes = Changes()
        self.created: set[int] = set()
        #: What happened to jobs since the last commit, each with the job after it.
        self.happened: list[tuple[Job, Event]] = []
        #: What happened to labels and notes of gateways since the last commit.
        self.relabelled: list[Relabelled] = []
        #: What webhooks are owed, by its number. ``Outbox`` keeps it.
        self.owed: dict[int, Owed] = {}
        #: Is called with what happens to jobs, each event with the job after it.
        self.tell: Callable[[Job, Event], None] = lambda _job, _event: None
        self._reader = reader
        self._ids = ids
        self._spare: Iterator[int] = iter(())
        self._open: dict[int, OpenJob] = {}
        self._job_of: dict[int, int] = {}
        self._touched: set[int] = set()
        #: Number of requests, and of jobs, that have ended since the start, by the status that they ended
        #: with. A late answer that corrects a request is not counted.
        self.ended_requests: Counter[RequestStatus] = Counter()
        self.ended_jobs: Counter[JobStatus] = Counter()
        self._large: Counter[int] = Counter()  # open job -> bytes of its large data

    # -- ids --------------------------------------------------------------------------------------

    def new_ids(self, total: int) -> NewIds:
        """Take ids for a new job of ``total`` requests. Raises Unavailable: too few are left."""
        first = self._ids.next_request
        if first + total > LAST_REQUEST_ID:
            raise Unavailable("No job can be created: this installation has given out all request ids.")
        new = NewIds(self._ids.next_job, first)
        self._ids.next_request = first + total
        self._ids.next_job += 1
        self.changes.ids = replace(self._ids)
        return new

    def new_template(self) -> int:
        """Take an id for a new template."""
        id_ = self._ids.next_template
        self._ids.next_template += 1
        self.changes.ids = replace(self._ids)
        return id_

    @property
    def ids_left(self) -> int:
        """Number of request ids that are left for new jobs."""
        return max(LAST_REQUEST_ID - self._ids.next_request, 0)

    def message_id(self, request: Request) -> int | None:
        """Take a fresh message id for another sending of a request; None: no id is left."""
        id_ = next(self._spare, None)
        if id_ is None and self._ids.next_request <= LAST_REQUEST_ID:
            block = range(self._ids.next_request, min(self._ids.next_request + ID_BLOCK, LAST_REQUEST_ID + 1))
            self._ids.next_request = block.stop
            self.changes.ids = replace(self._ids)
            self._spare = iter(block)
            id_ = next(self._spare)
        if id_ is not None:
            self.changes.sendings[id_] = request
        return id_

    def never_ran(self, request: Request) -> None:
        """Forget the message id of a request's last sending: it was refused, so no answer will come."""
        if request.message is not None and self.changes.sendings.pop(request.message, None) is None:
            self.changes.refused.append(request.message)

    # -- drafts: jobs whose requests are written before they exist ---------------------------------

    def begin_draft(self, job: Job) -> None:
        """Begin to write a job that does not exist until ``complete_draft``."""
        self.changes.drafts[job.id] = job

    def draft(self, item: Item, request: Request) -> None:
        """Write a request of a new job, and its item if it is the first request of that."""
        changes, id_ = self.changes, request.id
        changes.requests[id_] = request
        changes.destinations.add(request.destination)
        if item.id == id_:
            changes.items[id_] = item
            self.weigh(item)

    def complete_draft(self, job: Job) -> None:
        """Let a job exist whose requests are all written."""
        if self.changes.drafts.pop(job.id, None) is None:
            self.changes.completed.append(job.id)

    def abandon_draft(self, job: Job) -> None:
        """Remove what was written of a job that will never exist."""
        self._forget_changes(job)
        self._large.pop(job.id, None)
        if self.changes.drafts.pop(job.id, None) is None:
            self.changes.abandoned[job.id] = job

    # -- open jobs --------------------------------------------------------------------------------

    def open_job(self, opened: OpenJob, requests: Iterable[Request]) -> None:
        """Add a job with its open requests."""
        self._open[opened.job.id] = opened
        for request in requests:
            opened.requests[request.id] = request
            self._job_of[request.id] = opened.job.id
        if opened.policy.stops:
            opened.steps = Steps(opened.requests.values())
        self._touched.add(opened.job.id)

    def create(self, opened: OpenJob, requests: Iterable[Request]) -> None:
        """Add a job that is not on disk yet. ``draft`` writes its requests and items."""
        self.open_job(opened, requests)
        self.created.add(opened.job.id)

    def opened(self, job_id: int) -> OpenJob | None:
        """The open job of this id; None: it has ended, or there is none."""
        return self._open.get(job_id)

    def all_opened(self) -> list[OpenJob]:
        """All jobs that have not ended."""
        return list(self._open.values())

    def opened_of(self, request_id: int) -> OpenJob:
        """The open job that this open request belongs to."""
        return self._open[self._job_of[request_id]]

    def request(self, request_id: int) -> Request:
        """The open request of this id."""
        return self.opened_of(request_id).requests[request_id]

    def knows(self, request_id: int) -> bool:
        """Whether a request of this id is open."""
        return request_id in self._job_of

    def weigh(self, item: Item) -> None:
        """Count the data of an item of a job that is open from now on, if they are large."""
        if (size_bytes := memory(item.data)) > SMALL_BYTES:
            self._large[item.job] += size_bytes

    @property
    def large_bytes(self) -> int:
        """Number of bytes of large data of open jobs in memory."""
        return self._large.total()

    @property
    def open_jobs(self) -> int:
        """Number of jobs that have not ended."""
        return len(self._open)

    @property
    def open_requests(self) -> int:
        """Number of requests that are not done."""
        return len(self._job_of)

    # -- changes ----------------------------------------------------------------------------------

    def write(self, old: Request, new: Request) -> None:
        """Note the change of a request. It leaves memory when it is done; ``settle`` changes its job."""
        opened = self._open[new.job]
        self.changes.requests[new.id] = new
        opened.deltas[old.status] -= 1
        opened.deltas[new.status] += 1
        self._touched.add(new.job)
        if new.open:
            opened.requests[new.id] = new
        elif new.id in opened.requests:
            del opened.requests[new.id], self._job_of[new.id]
            self.ended_requests[new.status] += 1

    def write_job(self, job: Job) -> None:
        """Note the change of an open job."""
        self._open[job.id].job = job
        self._touched.add(job.id)

    def touched(self) -> list[int]:
        """Ids of the open jobs that ``settle`` must bring up to date."""
        return list(self._touched)

    def goes_on(self, job_id: int) -> bool:
        """Whether an open job goes on as it is, whatever its counts are: it has no gates, and is not done."""
        opened = self._open[job_id]
        return bool(opened.requests) and opened.policy.abort is None and len(opened.policy.waves) == 1

    def tally(self, opened: OpenJob) -> None:
        """Bring the counts of an open job up to date."""
        if opened.deltas:
            opened.job = opened.job.tallied(opened.deltas)
            opened.deltas.clear()

    def settle(self, job_id: int, at: str, *, boot: str = "", now_s: float = 0.0) -> Job:
        """Bring an open job up to date, and end it when none of its requests is open. Returns the job.

        Args:
            job_id: an open job.
            at: the time, as ISO 8601.
            boot: the boot id of the machine; empty: it has none.
            now_s: seconds of the monotonic clock of that boot.
        """
        self._touched.discard(job_id)
        opened = self._open[job_id]
        self.tally(opened)
        job = opened.job
        if job.started_at is None and job.counts[RequestStatus.SENT]:
            job = replace(job, started_at=at).noted(What.STARTED, at)
        if not job.open_count:
            job = job.after(job.ending or JobEvent.FINISH, at)
            job = job.noted(What.ENDED, at, why=job.reason)
            job = replace(job, ended_boot=boot, ended_s=now_s if boot else None)
            del self._open[job_id]
            self.ended_jobs[job.status] += 1
            self._large.pop(job_id, None)
        opened.job = self.changes.jobs[job_id] = job
        self._tell(opened)
        return job

    def _tell(self, opened: OpenJob) -> None:
        events = opened.job.events
        if events and events[-1].number > opened.told:
            for event in events:
                if event.number > opened.told:
                    self.note_happened(opened.job, event)
            opened.told = events[-1].number

    def note_happened(self, job: Job, event: Event) -> None:
        """Note what happened to a job, to be told once it is on disk."""
        self.happened.append((job, event))
        self.tell(job, event)

    def correct(self, old: Request, new: Request) -> None:
        """Note that a late answer has changed a request that was done, and count it in its job."""
        if old.job in self._open:
            self.write(old, new)
            return
        job = self.find_job(new.job)  # first, as it may fail: then the answer is taken once more
        self.changes.requests[new.id] = new
        self.changes.jobs[job.id] = job.tallied({old.status: -1, new.status: 1})

    def drop(self, job_id: int) -> tuple[Job, list[Request]]:
        """Let go of an open job that is to be removed. Returns it with its requests that are not done."""
        self._touched.discard(job_id)
        self._large.pop(job_id, None)
        opened = self._open.pop(job_id)
        for id_ in opened.requests:
            del self._job_of[id_]
        self.changes.dropped.add(job_id)
        return opened.job.tallied(opened.deltas), list(opened.requests.values())

    def count_dropped(self, left: Job, ended: Job) -> None:
        """Count the end of a job that was removed. ``left`` is the job as it was before that."""
        self.ended_jobs[ended.status] += 1
        for status, count in ended.counts.items():
            if status not in OPEN:
                self.ended_requests[status] += count - left.counts[status]

    def waiting_since(self, elsewhere: Mapping[int, int]) -> str | None:
        """Since when the oldest request of a dispatching job waits, as ISO 8601; None: none waits.

        ``elsewhere``: of each job, how many requests wait for something else than their turns.
        """
        jobs = (opened.job for opened in self._open.values() if not opened.shut)
        waiting = (job for job in jobs if job.status is JobStatus.DISPATCHING)
        pending = ((job, job.counts[RequestStatus.PENDING] - elsewhere.get(job.id, 0)) for job in waiting)
        return min((job.timed_at or job.created_at for job, count in pending if count > 0), default=None)

    def remove(self, job: Job) -> None:
        """Remove a job that has ended, with all changes of it that are not on disk yet."""
        self._forget_changes(job)
        self.changes.deleted[job.id] = job

    def revoke(self, job_id: int) -> list[Request]:
        """Forget a job whose creation could not be committed. Returns its requests that were open.

        Its ids are not used again.
        """
        job = self.find_job(job_id)
        opened = self._open.pop(job_id, None)
        self._large.pop(job_id, None)
        requests = list(opened.requests.values()) if opened is not None else []
        for request in requests:
            del self._job_of[request.id]
        self._touched.discard(job_id)
        self._forget_changes(job)
        self._never_happened(job)
        if job_id in self.changes.completed:
            self.changes.completed.remove(job_id)
            self.changes.abandoned[job_id] = job
        return requests

    def _never_happened(self, job: Job) -> None:
        """Tell nothing of a job that was created in this turn, and could not be written."""
        self.happened[:] = [one for one in self.happened if one[0].id != job.id]
        for id_, one in list(self.changes.owed.items()):
            if one.notice.data.get("job", {}).get("id") == job.id:
                del self.changes.owed[id_], self.owed[id_]
                self.changes.told.add(id_)  # whether it was written is not always known

    def _forget_changes(self, job: Job) -> None:
        self.created.discard(job.id)
        self.changes.jobs.pop(job.id, None)
        for id_ in job.request_ids:
            self.changes.requests.pop(id_, None)
            self.changes.items.pop(id_, None)
        for message in [id_ for id_, one in self.changes.sendings.items() if one.job == job.id]:
            del self.changes.sendings[message]

    def committed(self) -> None:
        """Begin anew, because all changes are on disk."""
        learned = self.changes.learned
        learned |= self.changes.destinations
        learned.difference_update(self.changes.gateways)  # a job names one just discovered
        if len(learned) > MOST_LEARNED:
            learned.clear()  # the store looks for them again
        self.changes = Changes(learned=learned)
        self.created = set()
        self.happened = []
        self.relabelled = []

    # -- look-ups: what is not on disk yet comes before what is ------------------------------------

    def find_request(self, message: int) -> Request | None:
        """The request of a sending under this message id, open or done; None: there is none."""
        sending = self.changes.sendings.get(message)
        id_ = sending.id if sending is not None else self._reader.sending(message) or message
        if id_ in self._job_of:
            return self.request(id_)
        request = self.changes.requests.get(id_) or self._reader.request(id_)
        return None if request is None or request.job in self.changes.deleted else request

    def find_item(self, request: Request) -> Item:
        """The item of a request, open or ended."""
        opened = self._open.get(request.job)
        if opened is not None:
            return opened.items[request.item]
        stored = self._reader.items_by_id([request.item])
        return self.changes.items.get(request.item) or stored[request.item]

    def find_job(self, job_id: int) -> Job:
        """The job of this id, open or ended. Raises NotFound."""
        opened = self._open.get(job_id)
        if opened is not None:
            return opened.job
        job = None
        if job_id not in self.changes.deleted:
            job = self.changes.jobs.get(job_id) or self._reader.job(job_id)
        if job is None:
            raise NotFound(f"There is no job {job_id}: GET /jobs lists those there are.")
        return job

    def find_by_key(self, key: str) -> Job | None:
        """The job with this idempotency key; None: there is none."""
        for job_id in self.created:
            if (new := self.find_job(job_id)).key == key:
                return new
        job = self._reader.job_by_key(key)
        if job is None or job.id in self.changes.deleted:
            return None
        return self.find_job(job.id)
