"""Adapters in files: what is in one, whether it fits its model; nothing of it is ever loaded here."""
