"""Faults on purpose, judged by what a client saw."""
