"""Measurements. Each prints its figures beside another of the same run, and their ratio."""
