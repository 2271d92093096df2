"""Why a photo could not be had."""

import string

_SHOWN_CHARS = 80


class PhotoFailure(Exception):
    """A photo that could not be had; the message is the reason for `downloads.csv`.

    The part of the message before a colon is its kind, by which failures are counted.

    Attributes
    ----------
    retry : bool
        Whether asking again may help.
    unreached : bool
        Whether its host could not even be connected to.
    asked : bool
        False if no request was tried.
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
    """Make text of strangers short and fit for one line.

    Parameters
    ----------
    foreign : object
        Part of a link, a header or an error message.

    Returns
    -------
    str
        At most 81 characters, all printable, white space collapsed.
    """
    words = " ".join(str(foreign)[:1000].split())
    line = "".join(letter if letter.isprintable() else "?" for letter in words)
    if len(line) > _SHOWN_CHARS:
        line = line[:_SHOWN_CHARS] + "…"
    return line.strip(string.whitespace)
