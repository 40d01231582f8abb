"""The base of every error of ours, and text from elsewhere made fit to be shown."""


class IrisError(Exception):
    """A failure that a person can mend: one line that says what is wrong and how to mend it."""

    transient = False
    """Whether the same may work later although the model stays what it is."""


def one_line(text: object, limit: int = 200) -> str:
    """Bring text from elsewhere to one printable line, fit for a terminal and a log."""
    line = " ".join(str(text).split())
    return "".join(char if char.isprintable() else "?" for char in line)[:limit]
