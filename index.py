"""The Sanji entry: ``python index.py`` runs the bundle."""

import gc
import logging
import sys
from pathlib import Path

from puppetmaster import routes, sdk
from puppetmaster.errors import PuppetmasterError
from puppetmaster.settings import Settings


class Index(routes.Puppetmaster):
    """The class that Sanji's bootstrap looks for."""


def main() -> None:
    """Run until SIGINT or SIGTERM. Ends with a sentence and code 1 when it cannot start."""
    try:
        settings = Settings.from_environment(data_dir=Path(__file__).resolve().parent / "data")
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(threadName)s %(message)s"
        )
        # Said here too: by itself the SDK reads variables only, and no file.
        link = sdk.connection(settings.broker_host, settings.broker_port)
        bundle = Index(connection=link, settings=settings)
        # A large job is many small objects that live for long. To look through all of them in search of
        # garbage, of which next to none is made here, takes longer than a turn of the dispatcher.
        gc.freeze()
        gc.set_threshold(10_000, 20, 50)
    except PuppetmasterError as error:
        sys.exit(f"puppetmaster cannot start: {error}")
    bundle.start()


if __name__ == "__main__":
    main()
