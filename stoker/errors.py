"""What can stop a start, as sentences for the person at the terminal."""


class StartError(Exception):
    """Stoker cannot start or go on; the text says why and what to do next."""
