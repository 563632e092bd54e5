"""Webhooks on their way: what is said, how it is signed, when it is tried again, and who sends it."""
