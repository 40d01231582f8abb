"""What the entry points are made of, one concern a module."""


class IrisError(Exception):
    """A failure that a person can mend: one line that says what is wrong and how to mend it."""
