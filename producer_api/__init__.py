"""The HTTP side: admission, routes, errors and operator commands."""
