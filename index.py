"""The Sanji entry: ``python index.py`` runs the bundle."""

import gc
import logging
import sys

from puppetmaster import app, places
from puppetmaster.bundle import sdk, systemd
from puppetmaster.clock import iso
from puppetmaster.errors import NotLeading, PuppetmasterError
from puppetmaster.settings import API, Settings

#: A thread at work lets another one run after this, when that wants to. An answer over HTTP passes from one
#: thread to the next a dozen times, and each time waits for all that are at work (decision 0053).
SWITCH_S = 0.0005


class Format(logging.Formatter):
    """A line of the log, with its time as the API writes times: a gateway's zone may be any."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(threadName)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The line; of a record that is ``systemd.bare`` its message only."""
        return record.getMessage() if systemd.bare(record) else super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - its name
        """The time in UTC, with ``Z``."""
        del datefmt
        return iso(record.created)


class Index(app.Puppetmaster):
    """The class that Sanji's bootstrap looks for."""


def main() -> None:
    """Run until SIGINT or SIGTERM.

    Ends with a sentence and code 1 when it cannot start, go on, or stop well. Code 75 instead: another
    process leads its bus, and a later try may do.
    """
    try:
        settings = Settings.from_environment(data_dir=places.data_dir())
        handler = logging.StreamHandler()
        handler.setFormatter(systemd.JournalFormat() if systemd.journal() else Format())
        logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
        if settings.role == API:
            sys.exit(app.ApiServer(settings).run())
        # A large job is many small objects that live for long. To look through all of them in search of
        # garbage, of which next to none is made here, takes longer than a turn of the dispatcher.
        gc.set_threshold(10_000, 20, 50)
        sys.setswitchinterval(SWITCH_S)
        # Said here too: by itself the SDK reads variables only, and no file.
        connection = sdk.connection(settings.broker_host, settings.broker_port)
        bundle = Index(connection=connection, settings=settings)
        gc.freeze()
    except PuppetmasterError as error:
        print(f"puppetmaster cannot start: {error}", file=sys.stderr)  # noqa: T201 - for who started it
        sys.exit(error.exit_code)
    bundle.alone = True
    try:
        bundle.start()
    except PuppetmasterError as error:
        sys.exit(f"puppetmaster has stopped: {error}")
    if bundle.unwritten is not None:
        sys.exit(f"puppetmaster has stopped, and not everything is written: {bundle.unwritten}")
    if bundle.fault is not None:
        sys.exit(f"puppetmaster has stopped: {bundle.fault}")
    if bundle.resigned:
        sys.exit(NotLeading.exit_code)


if __name__ == "__main__":
    main()
