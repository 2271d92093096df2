"""Tune the settings of a fold's booster inside its own training rows.

A trial is judged on the part of the training rows that early stopping uses. No trial
uses the rows that the fold holds out, so the out-of-fold score stays honest. The trials
of each fold are independent.

Source: Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011
(tree-structured Parzen estimator), as implemented in Optuna.
"""

import dataclasses
import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import lightgbm as lgb
import numpy as np

from embed.errors import ConfigError
from stack.config import Objective, StackConfig

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

_READ_OFF = (
    "learning_rate",
    "num_leaves",
    "min_data_in_leaf",
    "lambda_l2",
    "bagging_fraction",
    "feature_fraction",
)


def require_optuna() -> None:
    """Refuse trials where Optuna is not installed.

    Raises
    ------
    ConfigError
        If Optuna is not installed; the message tells how to install it.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError(
            "--tune needs Optuna, which is not installed. Run `pip install optuna`, or "
            "install pricestack with its extra `tune`; or leave --tune out."
        )


def best_of_trials(
    grow: Callable[[StackConfig], tuple[lgb.Booster, float]],
    config: StackConfig,
    *,
    fold: int,
) -> tuple[lgb.Booster, StackConfig]:
    """Grow a booster with `config` and with `n_trials` other settings; keep the best.

    Parameters
    ----------
    grow : callable
        Grows a booster with given settings; returns it and its validation SMAPE.
    config : StackConfig
        Settings to start from; its seed and `fold` determine the trials.
    fold : int

    Returns
    -------
    lightgbm.Booster, StackConfig
        Booster with the lowest validation SMAPE and its settings; the first of equals.

    Raises
    ------
    ConfigError
        If Optuna is not installed.
    """
    require_optuna()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    best, first = grow(config)
    lowest, settings = first, config

    def judge(trial: "optuna.Trial") -> float:
        nonlocal best, lowest, settings
        suggested = _suggest(trial, config)
        booster, trial_smape = grow(suggested)
        if trial_smape < lowest:
            best, lowest, settings = booster, trial_smape, suggested
        return trial_smape

    seed = np.random.SeedSequence([config.seed, fold]).generate_state(1)[0]
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=int(seed)))
    study.optimize(judge, n_trials=config.n_trials)
    logger.info(
        "fold %d: validation SMAPE %.2f by the settings given, %.2f by the best of %d",
        fold + 1,
        first,
        lowest,
        config.n_trials,
    )
    return best, settings


def _suggest(trial: "optuna.Trial", config: StackConfig) -> StackConfig:
    objective: Objective = trial.suggest_categorical("objective", get_args(Objective))
    return dataclasses.replace(
        config,
        objective=objective,
        learning_rate=trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        num_leaves=trial.suggest_int("num_leaves", 4, 64, log=True),
        min_data_in_leaf=trial.suggest_int("min_data_in_leaf", 10, 200, log=True),
        lambda_l2=trial.suggest_float("lambda_l2", 0.1, 100, log=True),
        bagging_fraction=trial.suggest_float("bagging_fraction", 0.5, 1),
        feature_fraction=trial.suggest_float("feature_fraction", 0.2, 1),
        embedding_gain=trial.suggest_float("embedding_gain", 0.05, 1, log=True),
    )


def settings_of_boosters(directory: Path) -> list[dict[str, object]]:
    """Read the settings of saved boosters from their files, in the order of the folds.

    Parameters
    ----------
    directory : Path
        Folder to which `fit_out_of_fold` wrote them.

    Returns
    -------
    list of dict
        Settings by the names of `StackConfig`; six digits, as LightGBM writes them.
        Empty for a booster without trees.
    """
    n_boosters = len(list(directory.glob("booster-*.txt")))
    paths = [directory / f"booster-{fold}.txt" for fold in range(n_boosters)]
    return [_settings(lgb.Booster(model_file=path).params) for path in paths]


def _settings(params: dict[str, Any]) -> dict[str, object]:
    if not params:
        return {}
    is_l1 = params["objective"] == "regression_l1"
    return {
        **{name: params[name] for name in _READ_OFF},
        "embedding_gain": min(params["feature_contri"]),
        "objective": "l1" if is_l1 else "log_smape",
    }
