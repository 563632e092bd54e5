"""What a job costs, measured beside the way most people would build it."""
