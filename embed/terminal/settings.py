"""The option `--set NAME=VALUE`, for settings that few people change."""

import dataclasses
import difflib
import json
from collections.abc import Collection, Sequence

from embed.errors import ConfigError


def read_settings(
    assignments: Sequence[str], config: type, *, own_options: Collection[str]
) -> dict[str, object]:
    """Read the settings that `--set` assigns.

    Parameters
    ----------
    assignments : sequence of str
        NAME=VALUE each, such as "clip_norm=2"; a value is a number, true,
        false or a word.
    config : type
        Dataclass of the settings.
    own_options : collection of str
        Settings that have an option of their own.

    Returns
    -------
    dict of str to int, float, bool or str
        Values by name; `config` checks their type and range.

    Raises
    ------
    ConfigError
        If there is no such setting, or it has an option of its own.
    """
    names = [f.name for f in dataclasses.fields(config) if f.name not in own_options]
    values = {}
    for assignment in assignments:
        name, equals, written = assignment.partition("=")
        name, written = name.strip().replace("-", "_"), written.strip()
        if name in own_options:
            raise ConfigError(
                f"--set {assignment}: {name} has an option of its own, see --help"
            )
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"Do you mean {near[0]}? " if near else ""
            raise ConfigError(
                f"--set {assignment}: there is no setting {name!r}. {hint}Settings: "
                f"{', '.join(names)}"
            )
        if not equals or not written:
            raise ConfigError(
                f"--set {assignment}: must be NAME=VALUE, such as --set {name}=1"
            )
        try:
            values[name] = json.loads(written)
        except ValueError:
            values[name] = written
    return values
