"""The code of docs/notebook.md runs, and gives what the page says."""

import functools
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import stack
from embed.config import EmbedConfig
from stack.config import StackConfig
from stack.notebook.problems import PlaceholderWarning

PAGE = (Path(__file__).parent.parent / "docs" / "notebook.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def sample(small_catalog, tiny_encoder, tmp_path, monkeypatch):
    """A folder to run the page in, with a sample and a regressor that is quick."""
    shutil.copytree(small_catalog.parent, tmp_path / "sample")
    monkeypatch.chdir(tmp_path)
    quick = functools.partial(
        stack.PriceRegressor,
        text_encoder=str(tiny_encoder),
        image_encoder="no-such-encoder",
        n_folds=2,
        smooth_l1_epochs=1,
        smape_epochs=0,
        max_tokens=24,
        image_size=32,
        n_threads=1,
        embed_config=EmbedConfig(backend="eager"),
        stack_config=StackConfig(max_rounds=2, n_bootstrap=20),
    )
    monkeypatch.setattr(stack, "PriceRegressor", quick, raising=False)


@pytest.mark.slow
@pytest.mark.usefixtures("sample")
def test_the_page_s_code_runs_from_top_to_bottom(capsys):
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlaceholderWarning)  # two of the sample's
        for block in BLOCKS:
            exec(block, names)  # noqa: S102 - the page is this repository's
    assert "SMAPE" in capsys.readouterr().out
    assert (names["low"] <= names["price"]).all()
    assert names["scores"].shape == (2,)
    run, catalog = names["run"], names["catalog"]
    assert run.array("embed/sample_id").tolist() == catalog.sample_id.tolist()
    np.testing.assert_array_equal(run.array("finetune/price"), catalog.price)
    assert len(names["regressor"].problems_) >= 2


def test_settings_on_the_page_exist():
    known = set(stack.PriceRegressor().get_params())
    named = set(re.findall(r"`(\w+)=", PAGE)) | set(
        re.findall(r"^    (\w+)=", PAGE, re.M)
    )
    assert {"image_column", "freeze_image", "run_dir", "images_dir"} <= named
    assert named - known == {"cv", "scoring"}
