"""Our code against a real broker, database and object store."""
