"""Pure logic: no socket, no file, no sleep."""
