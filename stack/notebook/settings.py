"""Settings of all three stages from a few flat parameters."""

import dataclasses
import numbers
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from sklearn.utils import check_random_state

from embed.config import EmbedConfig
from embed.errors import ConfigError
from finetune.config import FinetuneConfig
from stack.config import StackConfig

Config = TypeVar("Config", EmbedConfig, FinetuneConfig, StackConfig)
_PRECISIONS = ("auto", "fp32", "bf16")
_SHARED = ("max_tokens", "image_size", "precision")
_EMBED_PARAMETERS = (*_SHARED, "text_encoder", "image_encoder", "random_weights")
_FINETUNE_PARAMETERS = (
    *_SHARED,
    "n_folds",
    "smooth_l1_epochs",
    "smape_epochs",
    "batch_size",
    "freeze_image",
)
# Where a default depends on the encoders: the property with its usual value.
_USUAL = {"image_size": "photo_size"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the three stages."""

    embed: EmbedConfig
    finetune: FinetuneConfig
    stack: StackConfig


def settings_of(parameters: Mapping[str, Any]) -> Settings:
    """Return the settings of the stages that a regressor's parameters describe.

    Parameters
    ----------
    parameters : mapping of str to object
        All parameters of `PriceRegressor` by name.

    Raises
    ------
    ConfigError
        If a parameter has another type than its setting, or no run can use it.
    """
    seed = parameters["random_state"]
    if seed is None or isinstance(seed, np.random.RandomState):
        seed = int(check_random_state(seed).randint(2**31 - 1))
    common = {"n_threads": parameters["n_threads"], "seed": seed}

    def given(*names: str) -> dict[str, object]:
        return common | {name: parameters[name] for name in names}

    return Settings(
        embed=_with_given(
            parameters["embed_config"], EmbedConfig, given(*_EMBED_PARAMETERS)
        ),
        finetune=_with_given(
            parameters["finetune_config"], FinetuneConfig, given(*_FINETUNE_PARAMETERS)
        ),
        stack=_with_given(parameters["stack_config"], StackConfig, common),
    )


def _with_given(
    config: Config | None, kind: type[Config], values: dict[str, object]
) -> Config:
    """Override settings of a config with the given values that are not None."""
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
