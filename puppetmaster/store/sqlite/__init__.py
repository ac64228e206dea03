"""The embedded store: a TinyDB in one SQLite file."""
