"""The kit's only error: a sentence for the person who ran the command."""


class KitError(Exception):
    """Something the reader must change or know; the text says what and what to do next."""
