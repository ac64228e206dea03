"""What webhooks are owed: decided with the change that it tells of, and on disk with it.

``http.webhooks`` sends it, and says here what came of each attempt.
"""

import logging
from collections import Counter
from collections.abc import Sequence

from puppetmaster.clock import is_known, seconds
from puppetmaster.engine.state import State
from puppetmaster.model.job import Job
from puppetmaster.model.notice import TOLD, Hook, Notice, Owed, named_by
from puppetmaster.model.template import Template, Told
from puppetmaster.model.timeline import Event
from puppetmaster.store.base import Reader

log = logging.getLogger("sanji.puppetmaster.engine.outbox")

#: Most notices that wait at once, for all webhooks. What happens beyond it is not told.
MOST_OWED = 1000


class Outbox:
    """All that is owed. One thread uses it: the dispatcher's."""

    def __init__(self, state: State, reader: Reader) -> None:
        self._state = state
        state.owed = {one.id: one for one in reader.owed()}
        state.tell = self.happened
        self._next_id = max(state.owed, default=0) + 1
        #: The webhooks of the settings.
        self.hooks: Sequence[Hook] = ()
        #: Number of attempts since the start: ``sent`` and ``failed``; and of notices that were ``givenUp``.
        self.counts: Counter[str] = Counter()

    def use(self, hooks: Sequence[Hook]) -> None:
        """Note that these are the webhooks of the settings from now on."""
        self.hooks = hooks

    def __len__(self) -> int:
        return len(self._state.owed)

    def all(self) -> list[Owed]:
        """All that is owed, the oldest first."""
        return list(self._state.owed.values())

    def oldest_s(self, wall_s: float) -> float:
        """How long the first notice has waited at ``wall_s`` (wall clock); 0: nobody knows of any."""
        first = next(iter(self._state.owed.values()), None)
        if first is None or not (is_known(wall_s) and is_known(at_s := seconds(first.notice.at))):
            return 0.0
        return max(wall_s - at_s, 0.0)

    def happened(self, job: Job, event: Event) -> None:
        """Owe a notice of what has happened to a job, if webhooks are told that."""
        if self.hooks and event.what in TOLD:
            self.owe(Notice.of(job, event), job.given.get("notify", ()))

    def not_started(self, template: Template, told: Told, at: str) -> None:
        """Owe that a schedule did not start its job."""
        if self.hooks:
            self.owe(Notice.of_schedule(template, told, at), template.job.get("notify") or ())

    def taken_back(self, template: Template, told: Told) -> None:
        """Owe that notice no more, because it could not be written and is decided on again."""
        key = Notice.of_schedule(template, told, "").key
        for id_ in [id_ for id_, one in self._state.owed.items() if one.notice.key == key]:
            self._settle(id_)  # whether it was written is not always known

    def owe(self, notice: Notice, names: Sequence[str]) -> None:
        """Owe a notice to the webhooks of these names, and to the webhooks that are told all.

        A notice that is owed already was decided in a turn that could not be written: it is left as it is.
        """
        known = {one.hook for one in self._state.owed.values() if one.notice.key == notice.key}
        for hook in named_by(self.hooks, names):
            if hook.name in known:
                continue
            if len(self) >= MOST_OWED:
                self.counts["givenUp"] += 1
                log.error(
                    "webhook %s is not told of %s: %s notices wait already",
                    hook.name,
                    notice.key,
                    MOST_OWED,
                    extra={"action": "webhook_given_up"},
                )
                continue
            self._put(Owed(self._next_id, hook.name, notice))
            self._next_id += 1

    def told(self, id_: int) -> None:
        """Note that a webhook has taken what it was owed."""
        if self._settle(id_):
            self.counts["sent"] += 1

    def failed(self, id_: int) -> None:
        """Note that an attempt has failed, and that another will follow."""
        self.counts["failed"] += 1
        if (owed := self._state.owed.get(id_)) is not None:
            self._put(owed._replace(attempts=owed.attempts + 1))

    def give_up(self, id_: int) -> None:
        """Note that a webhook will never be told this."""
        if self._settle(id_):
            self.counts["givenUp"] += 1

    def _put(self, owed: Owed) -> None:
        self._state.owed[owed.id] = self._state.changes.owed[owed.id] = owed

    def _settle(self, id_: int) -> bool:
        if self._state.owed.pop(id_, None) is None:
            return False
        self._state.changes.owed.pop(id_, None)
        self._state.changes.told.add(id_)
        return True
