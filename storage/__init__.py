"""Every byte that outlives a process: rows, objects, vectors, event logs and hint lists."""
