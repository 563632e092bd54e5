"""The demo models, and the scripts that made them. Nothing that runs imports this: a catalog points at the weights."""
