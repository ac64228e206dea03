"""The contract: operations, fields, answers."""
