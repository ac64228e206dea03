"""Connections that are kept for their next use."""

from puppetmaster.store.postgres.sessions import Kept


class Session:
    """A connection that notes its end. While it is looked at, another thread ends all that is kept."""

    def __init__(self, kept: Kept["Session"]) -> None:
        self.ended = False
        self._kept = kept

    @property
    def closed(self) -> bool:
        self._kept.close()
        return self.ended

    def close(self) -> None:
        self.ended = True


def test_what_is_given_back_as_all_are_closed_is_closed_too() -> None:
    """Else the server would see a session of a process that has given the lead away."""
    kept: Kept[Session] = Kept(2, lambda session: session)  # type: ignore[arg-type,return-value]
    session = Session(kept)
    kept.give_back(session)
    assert session.ended
