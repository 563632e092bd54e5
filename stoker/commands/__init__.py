"""The command line: each noun's commands over the Python client, as tables for people and as JSON for scripts."""
