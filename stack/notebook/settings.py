"""Settings of all three stages from a few flat parameters."""

import dataclasses
import numbers
import os
from dataclasses import dataclass
from typing import Any, TypeVar

from embed.config import EmbedConfig
from embed.errors import ConfigError
from finetune.config import FinetuneConfig
from stack.config import StackConfig

Config = TypeVar("Config", EmbedConfig, FinetuneConfig, StackConfig)
_PRECISIONS = ("auto", "fp32", "bf16")
# Where a default depends on the encoders: the property with its usual value.
_USUAL = {"image_size": "photo_size"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the three stages."""

    embed: EmbedConfig
    finetune: FinetuneConfig
    stack: StackConfig


def with_given(
    config: Config | None, kind: type[Config], values: dict[str, object]
) -> Config:
    """Override settings of a config with the given values that are not None.

    Parameters
    ----------
    config : EmbedConfig, FinetuneConfig or StackConfig, optional
        Config to override; None for the defaults.
    kind : type
        Type of `config`.
    values : dict
        Values by name; numbers may be NumPy's.

    Raises
    ------
    ConfigError
        If a value has another type than the setting, or no run can use it.
    """
    if config is None:
        config = kind()
    elif not isinstance(config, kind):
        raise ConfigError(
            f"PriceRegressor: {_parameter(kind)} must be a {kind.__name__}, got "
            f"{config!r}. Leave it out for the defaults"
        )
    changes: dict[str, Any] = {
        name: _plain(name, value, getattr(kind(), _USUAL.get(name, name)))
        for name, value in values.items()
        if value is not None
    }
    if changes.get("precision", "auto") not in _PRECISIONS:
        raise ConfigError(
            f"PriceRegressor: precision must be one of {', '.join(_PRECISIONS)}, got "
            f"{changes['precision']!r}. Others go into finetune_config"
        )
    return dataclasses.replace(config, **changes)


def _parameter(kind: type[object]) -> str:
    return kind.__name__.removesuffix("Config").lower() + "_config"


def _plain(name: str, value: object, default: object) -> object:
    """Convert a value to the plain type of the setting, for the manifest."""
    is_bool = type(value).__name__ in ("bool", "bool_")
    if isinstance(default, bool):
        if is_bool:
            return bool(value)
    elif isinstance(default, int):
        if isinstance(value, numbers.Integral) and not is_bool:
            return int(value)
    elif isinstance(value, str | os.PathLike):
        return os.fspath(value)
    raise ConfigError(
        f"PriceRegressor: {name} must be of type {type(default).__name__}, got "
        f"{value!r}. Leave it out for the default, {default!r}"
    )
