"""The keys of the engine's timers."""

from enum import StrEnum
from typing import NamedTuple


class TimerKind(StrEnum):
    """What it means that a timer fires. The word in brackets says what its id is an id of."""

    ANSWER = "answer"  # an answer is not waited for any longer (request)
    WAKE = "wake"  # a delay is over, and the request waits for its turn again (request)
    PACE = "pace"  # the rate of a job allows another request (job)
    QUESTION = "question"  # the controller has not said who owns a destination (destination)
    OVERDUE = "overdue"  # an owner is not busy any longer with a command that it did not answer (message)
    ROOM = "room"  # the window has room again without an answer (0: there is one window)
    EXPIRE = "expire"  # the timeout of a job is over (job)
    BEGIN = "begin"  # a new job is not held any longer for the answer to its creator (job)
    ABSENT = "absent"  # a gateway that is away is not waited for any longer (request)
    BACK = "back"  # a gateway that was away is tried (destination)
    ASK = "ask"  # gateways that are away are to be asked for (0: all that are due)
    CHECK = "check"  # gateways are to be asked for, whether they are registered (0: the next gateways)
    START = "start"  # look whether a job starts (job)
    SOAK = "soak"  # the rest after a wave is over (job)
    WINDOW = "window"  # a maintenance window opens or closes (job)
    SCHEDULE = "schedule"  # a start may be due (template)


class Timer(NamedTuple):
    """The key of a timer of the engine."""

    kind: TimerKind
    id: int | str
