"""Errors that the user can fix; the commands show them as one line."""


class InputError(ValueError):
    """Base of the project's own errors: the message names place, rule and remedy."""


class ConfigError(InputError):
    """A setting has a value that no run can use."""


class CacheError(InputError):
    """A file of a run folder is missing, damaged or of another run."""


class UnreadableImage(ValueError):
    """A photo that cannot be used; the message is the reason in a few words."""
