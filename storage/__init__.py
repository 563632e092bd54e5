"""Every byte that outlives a process: rows, objects, event logs and hint lists."""
