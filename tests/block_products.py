"""Made-up products and prices for the blocks that are fitted on prices."""

import numpy as np

from embed.attributes import ATTRIBUTE_NAMES
from stack.blocks.fitted import fit_blocks
from stack.blocks.inputs import BlockInputs, Features, Prices

GOODS = ("green tea", "black tea", "ground coffee", "salted nuts", "olive oil")
UNITS = ("Ounce", "Count", "Fl Oz")
N_FOLDS = 4


def attributes_of(**known):
    """An array of attributes of which these are known."""
    n_products = len(next(iter(known.values())))
    found = np.full((n_products, len(ATTRIBUTE_NAMES)), np.nan, np.float32)
    for name, values in known.items():
        found[:, ATTRIBUTE_NAMES.index(name)] = values
    return found


def make_products(n_products=160, *, n_brands=5, seed=0):
    """Products of some brands and goods whose embeddings say which they are of."""
    rng = np.random.default_rng(seed)
    brand = rng.integers(0, n_brands, n_products)
    good = rng.integers(0, len(GOODS), n_products)
    size = rng.integers(1, 40, n_products)
    texts = [
        f"{size[row]} {UNITS[good[row] % 3]}. Brand{brand[row]} {GOODS[good[row]]}, "
        f"kind {rng.integers(0, 1000)}. Best before it is gone"
        for row in range(n_products)
    ]
    known = np.eye(10)[np.stack([brand % 5, 5 + good])].sum(0)

    def embed(dim):
        turned = known @ rng.normal(size=(10, dim)) + rng.normal(
            0, 0.3, (n_products, dim)
        )
        return turned.astype(np.float16)

    features = Features(
        text=embed(12),
        image=embed(16),
        image_ok=rng.random(n_products) < 0.7,
        fused=embed(20),
        attributes=attributes_of(
            log_total_amount=np.log(size), log_value=np.where(good % 3, size, np.nan)
        ),
        categories=np.zeros((n_products, 0), np.float32),
    )
    log_price = 2 + 0.4 * (brand % 5) + 0.3 * good + rng.normal(0, 0.1, n_products)
    return BlockInputs(texts=texts, features=features), log_price


def make_folds(n_products=160, *, seed=1):
    """Folds 0 to 3, and -1 for one product in ten."""
    rng = np.random.default_rng(seed)
    folds = rng.permutation(np.arange(n_products) % N_FOLDS)
    return np.where(rng.random(n_products) < 0.1, -1, folds).astype(np.int8)


def priced(log_price, folds):
    """Prices with NaN where there is no fold."""
    return Prices(log_price=np.where(folds >= 0, log_price, np.nan), folds=folds)


def fit(name, products, prices, stage_dir, **bound):
    """A block's out-of-fold features, in memory."""
    return np.array(fit_blocks([name], products, prices, stage_dir, **bound)[name])
