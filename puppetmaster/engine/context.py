"""What the parts of the engine share."""

from enum import StrEnum
from typing import NamedTuple


class TimerKind(StrEnum):
    """What happens when a timer fires; in brackets: the id that it is set for."""

    #: The answer to a request is not waited for any more (request).
    ANSWER = "answer"
    #: A request that waited for some time waits for its turn again (request).
    WAKE = "wake"
    #: The rate of a job allows another request (job).
    PACE = "pace"
    #: A question about locks was not answered (destination).
    QUESTION = "question"
    #: An owner of many gateways is not busy any more with what it did not answer (message).
    OVERDUE = "overdue"
    #: The window has room by itself (0).
    ROOM = "room"
    #: The timeout of a job is over (job).
    EXPIRE = "expire"
    #: Whoever created a job had time enough to get the answer (job).
    BEGIN = "begin"
    #: It is time to look whether a job starts (job).
    START = "start"
    #: A wave that is done has rested (job).
    SOAK = "soak"


class Timer(NamedTuple):
    """One timer of the engine."""

    kind: TimerKind
    id: int | str
