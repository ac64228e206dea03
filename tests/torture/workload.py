"""Somebody who uses the API all the while, and remembers what was promised."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.bus_client import BusClient
from tests.torture.labels import Keeper
from tests.torture.orders import Order, Orders, of_template, scheduled
from tests.torture.starts import BY_SCHEDULE, Answer, Schedules
from tests.torture.told import told_faults, until_told
from tests.torture.world import World

ANSWER_S = 2.5
FINAL = {"resolved", "error", "timeout", "unknown", "canceled", "skipped"}


class Workload:
    """Creates, controls and looks at jobs in a thread of its own; repeats a POST that got no answer."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self.orders: dict[str, Order] = {}
        self._said: dict[str, Any] = {}  # by key: what was answered to an order last
        self.broken: list[str] = []  #: promises that were seen broken on the way
        self.starts: Counter[str] = Counter()  #: what has become of the starts of schedules
        self.told = 0  #: what a webhook was told, under so many ids
        self._rng = random.Random(seed)
        self._drawn = Orders(seed, world.fleet, world.hardly)
        self.keeper = Keeper(random.Random(seed), world.fleet)
        self._schedules = Schedules(
            self._answered, lambda name, slow: scheduled(name, world.quick, slow=slow)
        )
        self._stop = threading.Event()
        self._done: dict[int, int] = {}
        self._connect()
        self._thread = threading.Thread(target=self._run, name="workload", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for nothing new."""
        self._stop.set()
        self._thread.join(30)

    def close(self) -> None:
        """Leave the bus."""
        self._client.close()

    def _connect(self) -> None:
        number = self._connections = self._world.connections
        # Beginning at 2**20: the world's own questions have ids below that.
        self._client = BusClient(self._world.gateway.broker, first_id=2**20 * (number + 1)).connect()
        # A name of its own each time: of a registration that broke off nobody knows whether it was made.
        self._events = self._client.register_view(self._client.name, ["/jobs/+"])

    def _connect_again(self) -> bool:
        """Connect as somebody new; False: the world broke again meanwhile."""
        try:
            self._client.close()
            self._connect()
        except (OSError, TimeoutError, RuntimeError):
            self._connections = -1
            return False
        return True

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.broken.append(f"the workload ended early: {error!r}")
            raise

    def _work(self) -> None:
        while not self._stop.wait(self._rng.uniform(0.0, self._world.pace_s)):
            if self._world.conditions.scheduled:
                self._schedules.put_next()
            action = self._rng.random()
            if action < 0.5:
                if self._has_room():
                    self._order()
            elif action < 0.7:
                self.look()
            elif action < 0.87:
                self._label()
            else:
                self._control()
            self._hear()

    def _has_room(self) -> bool:
        """Whether fewer jobs are open than the world can work off."""
        if self._world.most_open is None:
            return True
        answer = self._ask("get", "/jobs?status=dispatching,pending")
        return answer is not None and answer["code"] == 200 and len(answer["data"]) < self._world.most_open

    # -- what is asked for --------------------------------------------------------------------------

    def _order(self) -> None:
        known = [one for one in self.orders.values() if one.job is not None and not one.removal_asked]
        order = self._drawn.draw(known[-8:], self._schedules.kept)
        self.orders[order.key] = order
        self._post(order)

    def _post(self, order: Order) -> None:
        answer = self._ask("post", order.path, order.body)
        self._said[order.key] = answer and (answer["code"], answer.get("data"))
        if answer is None:
            return
        if answer["code"] in (404, 409) and "rerun" in order.body:
            if order.job is None:
                order.removal_asked = True  # the other job is gone, or has nothing to run again
            return
        if answer["code"] != 200:
            if answer["code"] == 400:
                self.broken.append(f"{order.body} is answered {answer['data']}")
            return
        job = order.acknowledge(answer)
        if order.job is not None and order.job != job:
            self.broken.append(f"{order.key} is job {order.job}, and then job {job}")
        order.job = job

    def _label(self) -> None:
        change = self.keeper.draw()
        answer = self._ask(change.method, change.resource, change.body)
        change.acknowledged = answer is not None and answer["code"] == 200

    def _control(self) -> None:
        order = self._some()
        if order is None:
            return
        choice = self._rng.random()
        if choice < 0.2:
            self.remove(order)
            return
        body: dict[str, Any] = {"status": self._rng.choice(["paused", "dispatching", "canceled"])}
        if order.path.startswith("/templates"):
            body["status"] = "canceled"  # one that is paused would be in the way of all starts to come
        order.controlled = True
        if body["status"] == "canceled" and self._rng.random() < 0.5:
            body["force"] = True
        self._ask("put", f"/jobs/{order.job}", body)

    def remove(self, order: Order) -> None:
        """Remove its job."""
        order.removal_asked = True
        answer = self._ask("delete", f"/jobs/{order.job}")
        order.removed |= answer is not None and answer["code"] == 200

    def _some(self) -> Order | None:
        known = [one for one in self.orders.values() if one.job is not None and not one.removal_asked]
        return self._rng.choice(known[-8:]) if known else None

    # -- what is seen -------------------------------------------------------------------------------

    def look(self, order: Order | None = None) -> None:
        """Look at a job, and at whether what was final before still is."""
        order = order or self._some()
        if order is None:
            return
        answer = self._ask("get", f"/jobs/{order.job}/requests")
        if answer is None or answer["code"] == 503 or answer.get("sign") == ["controller"]:
            return  # the bundle was not asked, or could not look
        if answer["code"] != 200:
            self.broken.append(f"job {order.job} was acknowledged, and is answered {answer['code']}")
            return
        for request in answer["data"]:
            inner = request["__request"]
            if inner["status"] in FINAL:
                self._compare(order, request["id"], inner["status"], inner["result"])
            elif request["id"] in order.seen:
                self.broken.append(f"request {request['id']} was {order.seen[request['id']][0]}, "
                                   f"and is {inner['status']}")  # fmt: skip

    def _compare(self, order: Order, id_: int, status: str, result: Any) -> None:
        before = order.seen.get(id_)
        late = before is not None and before[0] in ("timeout", "unknown") and status in ("resolved", "error")
        if before is not None and before != (status, result) and not late:
            self.broken.append(f"request {id_} was {before}, and is {(status, result)}")
        order.seen[id_] = (status, result)

    def _hear(self) -> None:
        """Job events: what they say to be done stays done."""
        while not self._events.empty():
            event = self._events.get()
            if event["method"] == "delete":
                continue
            job = event["data"]
            if job["doneCount"] < self._done.get(job["id"], 0):
                self.broken.append(
                    f"job {job['id']}: {self._done[job['id']]} were done, then {job['doneCount']}"
                )
            self._done[job["id"]] = job["doneCount"]

    # -- the end ------------------------------------------------------------------------------------

    def finish(self, timeout_s: float) -> None:
        """Have every order acknowledged, go on with paused jobs, and wait until every job has ended."""
        deadline_s = time.monotonic() + timeout_s
        pause = threading.Event()
        # First: a template that was changed since has another job for the same key, which is a conflict.
        for order in self.orders.values():
            while order.job is None and not order.removal_asked and time.monotonic() < deadline_s:
                self._post(order)
        self._schedules.end()
        while time.monotonic() < deadline_s:
            answer = self._ask("get", "/jobs?status=dispatching,paused,pending")
            if answer is not None and answer["code"] == 200:
                for job in answer["data"]:
                    if job["status"] == "paused":
                        self._ask("put", f"/jobs/{job['id']}", {"status": "dispatching"})
                if not answer["data"]:
                    break
            pause.wait(0.1)
        else:
            self.broken.append(
                f"not every job had ended {timeout_s:g} s after the last fault: {'; '.join(self._open())}"
            )
        pause.wait(1.5)  # announcements are held for up to a second
        self._hear()

    def _open(self) -> Iterator[str]:
        """What the first jobs that have not ended say of themselves, and of their first open requests.

        And what was said to orders that were not acknowledged.
        """
        for key, order in self.orders.items():
            if order.job is None and not order.removal_asked:
                yield f"{key} ({order.body}): {self._said.get(key)}"
        for job in self._data("/jobs?status=dispatching,paused,pending")[:3]:
            requests = self._data(f"/jobs/{job['id']}/requests?status=pending,sent")
            said = [json.dumps(request["__request"]) for request in requests[:2]]
            yield f"job {job['id']}: {job['status']}, {job.get('reason')}, {', '.join(said)}"

    def settle(self, timeout_s: float) -> None:
        """Look at what schedules have started, at who created each job, and at what the webhook was told."""
        listener = self._world.listener
        if listener is None:
            return
        listener.good.set()
        if not until_told(self._owed, timeout_s):
            self.broken.append(f"what the webhook is owed was not told within {timeout_s:g} s")
        jobs = {job["id"]: job for job in self._data("/jobs")}
        lines = {id_: self._data(f"/jobs/{id_}/events") for id_ in jobs}
        removed = {order.job for order in self.orders.values() if order.job and order.removal_asked}
        self.broken += self._schedules.faults(jobs.values())
        starts = self._schedules.starts()
        self.starts, self.told = sum(starts.values(), Counter[str]()), len({one.id for one in listener.got})
        self.broken += told_faults(listener.got, jobs, lines, removed, starts)
        kept = {one.id: one for one in self._schedules.kept}
        for job in jobs.values():
            if str(job["key"]).startswith(BY_SCHEDULE):
                order = of_template(kept[job["template"]], job["key"])
                order.job = job["id"]
                self.orders[order.key] = order
            elif job["createdBy"] != "bus":
                self.broken.append(f"job {job['id']} ({job['key']}) is said to be by {job['createdBy']}")

    def _owed(self) -> int | None:
        answer = self._answered("get", "/system/puppetmaster", None)
        return int(answer[1]["webhooks"]["ops"]["waiting"]) if answer and answer[0] == 200 else None

    def _data(self, resource: str) -> Any:
        for _ in range(20):
            answer = self._answered("get", resource, None)
            if answer is not None and answer[0] == 200:
                return answer[1]
        raise TimeoutError(f"no answer to GET {resource}")

    def _answered(self, method: str, resource: str, data: Any) -> Answer:
        answer = self._ask(method, resource, data)
        if answer is None or answer.get("sign") == ["controller"]:
            return None
        return answer["code"], answer.get("data")

    def _ask(self, method: str, resource: str, data: Any = None) -> dict[str, Any] | None:
        """One request and its answer; None when there was none in time, or the bundle died meanwhile."""
        self._world.alive.wait(30)
        if self._connections != self._world.connections and not self._connect_again():
            return None
        asked = self._client.ask(method, resource, data)
        deadline_s = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline_s:
            try:
                return asked.result(0.05)
            except TimeoutError:
                if not self._world.alive.is_set():
                    break
        return None
