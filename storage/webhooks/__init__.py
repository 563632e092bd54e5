"""Webhooks in SQL: endpoints, secrets, and one row for each delivery from the moment its event has happened."""
