"""The command line; it talks HTTP only."""
