import dataclasses

import numpy as np
import pytest
from conftest import TINY_STACK, TINY_TRAINING, choose, copy_run
from safetensors.numpy import load_file

from embed.catalog.reader import read_catalog
from finetune.config import FinetuneConfig
from finetune.network.model import FUSED_DIM
from finetune.network.parts import TOWER_DIM
from finetune.out_of_fold import finetune
from stack.fit import fit_stack
from stack.price.catalog import predict_prices


@pytest.fixture(scope="module")
def run_of(embedded_run, shared):
    """Runs whose networks see both, text alone, photos alone."""
    every = ("both", "text", "image")

    def make(folder):
        for inputs in every:
            run_dir = copy_run(embedded_run, folder / inputs)
            config = dataclasses.replace(TINY_TRAINING, inputs=inputs)
            finetune(run_dir, config=config)
            fit_stack(run_dir, config=TINY_STACK)
            choose(run_dir, "network")

    folder = shared("inputs", make)
    return {inputs: folder / inputs for inputs in every}


def load(run_dir, name):
    return np.load(run_dir / "finetune" / f"{name}.npy")


def test_the_folds_are_the_same_whatever_the_networks_see(run_of):
    for inputs in ("text", "image"):
        for name in ("folds", "groups", "price"):
            found, expected = (load(run_of[run], name) for run in (inputs, "both"))
            np.testing.assert_array_equal(found, expected)


def test_networks_of_text_alone_embed_no_photo(run_of):
    weights = load_file(run_of["text"] / "finetune" / "fold-0" / "model.safetensors")
    assert not any(name.startswith("image_backbone") for name in weights)
    folds, fused = (load(run_of["text"], name) for name in ("folds", "fused"))
    for fold in range(TINY_TRAINING.n_folds):
        of_fold = fused[folds == fold]
        assert (of_fold[:, TOWER_DIM:] == of_fold[0, TOWER_DIM:]).all()
        assert np.ptp(of_fold[:, :TOWER_DIM].astype(float), axis=0).max() > 0


def test_networks_of_photos_alone_price_all_products_without_one_alike(run_of):
    weights = load_file(run_of["image"] / "finetune" / "fold-0" / "model.safetensors")
    assert weights["head.0.weight"].shape[1] == FUSED_DIM  # no sizes, no wide part
    image_ok = np.load(run_of["image"] / "embed" / "image_ok.npy")
    assert (~image_ok).any()
    folds, log_price = (load(run_of["image"], n) for n in ("folds", "oof_log_price"))
    for fold in np.unique(folds[~image_ok]):
        blind = log_price[(folds == fold) & ~image_ok]
        np.testing.assert_allclose(blind, blind[:1].repeat(len(blind)), atol=1e-5)
        assert np.ptp(log_price[(folds == fold) & image_ok]) > 1e-4


def test_new_products_are_priced_by_what_the_networks_see(run_of, sample_catalog):
    catalog, photos = read_catalog(sample_catalog), sample_catalog.parent / "images"
    image_ok = np.load(run_of["text"] / "embed" / "image_ok.npy")

    def price(inputs, catalog, images_dir):
        return predict_prices(
            run_of[inputs], catalog, images_dir=images_dir, n_threads=1
        ).price

    seen, unseen = price("text", catalog, photos), price("text", catalog, None)
    np.testing.assert_allclose(seen, unseen, rtol=1e-6)
    mute = dataclasses.replace(catalog, text=["tea"] * len(catalog.text))
    seen, unseen = price("image", catalog, photos), price("image", mute, photos)
    np.testing.assert_allclose(seen, unseen, rtol=1e-6)
    blind = price("image", catalog, None)
    np.testing.assert_allclose(blind, blind[0], rtol=1e-5)
    assert not np.isclose(seen, blind, rtol=1e-6)[image_ok].any()


def test_the_trees_see_what_the_networks_do_not(run_of, sample_catalog, tmp_path):
    catalog, photos = read_catalog(sample_catalog), sample_catalog.parent / "images"
    for inputs in ("text", "image"):
        run_dir = choose(copy_run(run_of[inputs], tmp_path / inputs), "stacker")
        other = {
            "text": (catalog, None),
            "image": (
                dataclasses.replace(catalog, text=["tea"] * len(catalog.text)),
                photos,
            ),
        }[inputs]
        found, changed = (
            predict_prices(run_dir, of, images_dir=folder, n_threads=1).price
            for of, folder in ((catalog, photos), other)
        )
        assert not np.allclose(found, changed, rtol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "sees_text", "sees_photos", "n_tokens"),
    [("both", True, True, 64), ("text", True, False, 64), ("image", False, True, 2)],
)
def test_what_is_seen(inputs, sees_text, sees_photos, n_tokens):
    config = FinetuneConfig(inputs=inputs)
    found = config.sees_text, config.sees_photos, config.n_tokens
    assert found == (sees_text, sees_photos, n_tokens)
