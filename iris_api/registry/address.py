"""Addresses with a login in them, which must not be shown, stored or sent to another host."""

from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit


class Login(NamedTuple):
    """A user and a password, decoded."""

    username: str
    password: str


def split_login(url: str) -> tuple[SplitResult, Login | None]:
    """Split a URL into its parts without the login, and the login.

    Raises:
        ValueError: The URL cannot be split; its text may have a login in it.
    """
    parts = urlsplit(url)
    # A password may have an @ in it, a host may not.
    login, _, host = parts.netloc.rpartition("@")
    clean = parts._replace(netloc=host)
    if not login:
        return clean, None
    username, _, password = login.partition(":")
    return clean, Login(unquote(username), unquote(password))
