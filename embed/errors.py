"""Errors that the user can put right; the commands show them as one line."""


class InputError(ValueError):
    """Base of the project's own errors. The message says where, what, what to do."""


class ConfigError(InputError):
    """A setting that no run can use."""


class CacheError(InputError):
    """What a run folder holds does not fit what is asked of it."""


class UnreadableImage(ValueError):
    """A photo that cannot be used; the message is the reason in a few words."""
