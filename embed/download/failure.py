"""The error for a photo that could not be downloaded, with its reason."""

import string

from embed.catalog.columns import shorten

_SHOWN_CHARS = 80


class PhotoFailure(Exception):
    """A failed download; the message is the reason for `downloads.csv`.

    Failures are counted by kind, which is the part of the message before a colon.

    Attributes
    ----------
    retry : bool
        Whether another request may help.
    unreached : bool
        Whether the connection to the host failed.
    asked : bool
        False if no request was sent.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry: bool = False,
        unreached: bool = False,
        asked: bool = True,
    ) -> None:
        super().__init__(reason)
        self.retry = retry
        self.unreached = unreached
        self.asked = asked


def shown(foreign: object) -> str:
    """Shorten text from an unknown source to one line.

    Parameters
    ----------
    foreign : object
        Text of a link, a header or an error message.

    Returns
    -------
    str
        At most 81 characters, all printable, white space collapsed.
    """
    words = " ".join(str(foreign)[:1000].split())
    line = "".join(letter if letter.isprintable() else "?" for letter in words)
    return shorten(line, _SHOWN_CHARS).strip(string.whitespace)
