"""``python -m puppetmaster``: the command line."""

import signal

# Before the rest is imported, which takes a moment: Ctrl-C ends that too, without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from puppetmaster.cli import main as cli  # noqa: E402


def main() -> None:
    """Run the command line; the command that pip installs does this."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
