"""``python -m puppetmaster``: the command line."""

from puppetmaster import cli

if __name__ == "__main__":
    cli.main()
