"""``python -m puppetmaster``: the command line."""

import signal

# Before the rest is imported, which takes a moment: Ctrl-C ends that too, without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from puppetmaster.cli import main  # noqa: E402

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main.main()
