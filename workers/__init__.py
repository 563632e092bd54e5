"""The consumer side: processes that keep one engine resident and feed it jobs."""
