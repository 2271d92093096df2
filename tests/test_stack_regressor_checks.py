"""scikit-learn's own checks of an estimator, as far as they can apply to text."""

import copy
import functools

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from embed.config import EmbedConfig
from embed.encoders.towers import load_text_backbone
from finetune.config import FinetuneConfig
from stack import PriceRegressor
from stack.config import StackConfig

EXEMPT = {
    "check_n_features_in": "columns go by name, and the numbers of a row become one "
    "text: it counts 1 feature for any width of array",
    "check_n_features_in_after_fitting": "as above; that a column is missing is found "
    "by its name (test_stack_regressor.py)",
    "check_fit2d_predict1d": "no array can be reshaped into a DataFrame, so the "
    "message says how to make one",
}


class TakesArrays(PriceRegressor):
    """Write the numbers of an array as text; the checks feed nothing else."""

    def fit(self, X, y):
        return super().fit(as_text(X), y)

    def predict(self, X):
        return super().predict(as_text(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.regressor_tags.poor_score = True  # of numbers as text
        return tags


def as_text(X):
    array = np.asarray(X)
    if array.ndim != 2 or array.dtype.kind not in "iufO":
        return X
    if 0 in array.shape:
        return pd.DataFrame(array)
    return pd.DataFrame({"catalog_content": [" ".join(map(str, row)) for row in array]})


QUICK = TakesArrays(
    image_column=None,
    text_encoder="tiny",
    n_folds=2,
    smooth_l1_epochs=1,
    smape_epochs=0,
    batch_size=64,
    max_tokens=8,
    image_size=32,
    precision="fp32",
    n_threads=1,
    embed_config=EmbedConfig(backend="eager", random_weights=True),
    finetune_config=FinetuneConfig(freeze_image=True),
    stack_config=StackConfig(
        max_rounds=1, n_bootstrap=2, blocks=("network",), ablation=False
    ),
)


@pytest.fixture(scope="module")
def text_backbone():
    """Read the tiny encoder's file once, not six times in each of 60 fits."""
    read_once = functools.cache(load_text_backbone)
    return lambda *args, **kwargs: copy.deepcopy(read_once(*args, **kwargs))


@pytest.fixture(autouse=True)
def _quick_towers(monkeypatch, tiny_encoder, text_backbone, tmp_path):
    (tmp_path / "tiny").symlink_to(tiny_encoder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("embed.encoders.embedder._image_weights", lambda config: None)
    monkeypatch.setattr("embed.encoders.embedder.load_text_backbone", text_backbone)
    monkeypatch.setattr("finetune.network.build.load_text_backbone", text_backbone)
    for module in ("stack.fit", "stack.price.loading"):
        monkeypatch.setattr(f"{module}.RAW_BLOCKS", ("attributes",))
    monkeypatch.setattr("embed.store.manifest._version", lambda package: "")
    # A third of the time, and it says nothing of numbers written as text.
    monkeypatch.setattr(
        "stack.trees.alignment.fit_rotation", lambda source, _: np.eye(source.shape[1])
    )
    # The control serves nothing, and has no weights where a model is constant.
    monkeypatch.setattr(
        "stack.fit.blend_out_of_fold", lambda *_, network, **others: (network, None)
    )


@pytest.mark.one_in(8)
@parametrize_with_checks(
    [QUICK], expected_failed_checks=lambda _: EXEMPT, xfail_strict=True
)
def test_the_regressor_keeps_the_conventions_of_scikit_learn(estimator, check):
    check(estimator)


def test_scikit_learn_knows_that_no_array_will_do():
    with pytest.warns(SkipTestWarning, match="string=True"):
        results = check_estimator(PriceRegressor())
    passed = {r["check_name"] for r in results if r["status"] == "passed"}
    assert passed == {"check_estimator_cloneable"}
