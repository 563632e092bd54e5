"""The vocabulary: jobs, kinds, events, catalog and errors; standard library and pydantic only."""
