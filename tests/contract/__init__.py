"""One suite per port, run against the in-memory and every real adapter."""
