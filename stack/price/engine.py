"""The pricing engine: prices from the outputs of towers and networks.

It uses NumPy, and the boosters and fitted blocks passed to it. PyTorch, OpenVINO or
ONNX run the towers elsewhere; an exported folder contains this module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embed.store.arrays import to_float16
from finetune.averaging import average_log_prices
from finetune.price_unit import to_price
from stack.blocks.block import PriceBlock
from stack.blocks.inputs import BlockInputs, Features, split_attributes
from stack.blocks.registry import STARTS, Start
from stack.price.confidence import Confidence

_MAX_LOG_BLEND = 50.0  # of two nearly constant models the best weights can be huge


class Booster(Protocol):
    """The part of a LightGBM booster that the engine uses."""

    def num_trees(self) -> int:
        """Return the number of trees."""

    def predict(self, data: NDArray[np.float32], *, num_threads: int) -> Any:
        """Return log1p prices, shape (n_products,)."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Outputs of towers and networks for some products."""

    texts: Sequence[str]
    """Composed texts, one for each product."""

    attributes: NDArray[np.float32]
    """Sizes and features of table columns, shape (n_products, n_attributes); NaN where
    unknown."""

    has_photo: NDArray[np.bool_]
    """Shape (n_products,)."""

    network_log_prices: NDArray[np.float32]
    """log1p prices by the network of each fold, shape (n_folds, n_products)."""

    fused: Sequence[NDArray[np.float32]]
    """Aligned fused embeddings by each fold, each of shape (n_products, 512)."""

    text: NDArray[np.float32] | None = None
    """Frozen text features, shape (n_products, text dim); used with boosters only."""

    image: NDArray[np.float32] | None = None
    """Frozen photo features, shape (n_products, image dim), 0 without a photo; used
    with boosters only."""


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Prices of some products, row by row, and the features behind them."""

    network_log_price: NDArray[np.float64]
    """log1p price by the networks, shape (n_products,)."""

    log_price: NDArray[np.float64]
    """log1p price by the predictor that the run chose, shape (n_products,)."""

    blocks: dict[str, NDArray[np.float32]]
    """Features by block: `fused`, `attributes` and `network`; with boosters `text`,
    `image` and their other blocks too."""

    price_unit: float
    """Unit of the log prices, catalog currency."""

    network_factor: NDArray[np.float64]
    """Highest price by the networks of the folds over the lowest, shape (n_products,);
    1 where one fold predicts."""

    error_size: NDArray[np.float64]
    """Expected size of the error of each log price, shape (n_products,); NaN without
    the engine's confidence."""

    unlike: NDArray[np.bool_]
    """Whether each product is unlike all that the run was trained on, (n_products,)."""

    @property
    def price(self) -> NDArray[np.float64]:
        """Prices in catalog currency, finite and above 0."""
        return to_price(self.log_price, self.price_unit)


@dataclass(frozen=True, kw_only=True)
class Trees:
    """Boosters, one per fold, and the blocks that are their features."""

    boosters: Sequence[Booster]
    blocks: Sequence[str]
    """In column order."""

    log_price_columns: Mapping[str, Sequence[int]]
    """Columns that are log prices, by block."""

    n_threads: int = 1
    """Threads of LightGBM. Two wait for each other longer than a few products take:
    beside other work, 39 instead of 1 ms for one product."""

    def columns(self, blocks: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the features, shape (n_products, d)."""
        features = {name: blocks[name] for name in self.blocks}
        parts = relative_blocks(features, self.log_price_columns).values()
        return np.concatenate(
            [part.reshape(len(part), -1) for part in parts], axis=1, dtype=np.float32
        )

    def add(self, blocks: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Return the boosters' correction of the log price, shape (n_products,)."""
        return mean_of_boosters(
            self.boosters, self.columns(blocks), n_threads=self.n_threads
        )


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The predictor that a run chose, without its towers."""

    price_unit: float
    """Unit of the log prices, catalog currency."""

    trees: Trees | None = None
    """Boosters that correct the networks; None if the networks predict alone."""

    raw_trees: Trees | None = None
    """Boosters that predict the block `lightgbm`; None without that block."""

    raw_start: float = 0.0
    """log1p price that `raw_trees` start from."""

    start_weights: NDArray[np.float64] | None = None
    """Weights of the networks' price and the kernel ridge's in the block `start`,
    shape (2,); None without that block."""

    n_categories: int = 0
    """Number of category columns, the last of the attributes."""

    price_blocks: Mapping[str, PriceBlock] = field(default_factory=dict)
    """Blocks that are fitted on prices."""

    confidence: Confidence | None = None
    """What is known of the errors of the prices."""

    def predict(self, encoded: Encoded) -> Predicted:
        """Price some products.

        Parameters
        ----------
        encoded : Encoded

        Returns
        -------
        Predicted
        """
        network = average_log_prices(encoded.network_log_prices).astype(np.float64)
        total = np.zeros_like(encoded.fused[0])
        for fold_embedding in encoded.fused:
            total += fold_embedding
        blocks = {
            "fused": half(total / np.float32(len(encoded.fused)), name="fused"),
            "attributes": encoded.attributes,
            "network": network.astype(np.float32),
        }
        log_price = network
        if self.trees is not None:
            log_price = self._correct(network, blocks, encoded)
        error_size = np.full(len(network), np.nan)
        unlike = np.zeros(len(network), dtype=bool)
        if self.confidence is not None:
            error_size, unlike = self.confidence.size(encoded, blocks, log_price)
        return Predicted(
            network_log_price=network,
            log_price=log_price,
            blocks=blocks,
            price_unit=self.price_unit,
            network_factor=price_factor(to_price(encoded.network_log_prices)),
            error_size=error_size,
            unlike=unlike,
        )

    def _correct(
        self,
        network: NDArray[np.float64],
        blocks: dict[str, NDArray[np.float32]],
        encoded: Encoded,
    ) -> NDArray[np.float64]:
        """Return the corrected log prices; add the trees' blocks to `blocks`."""
        assert self.trees is not None
        assert encoded.text is not None
        assert encoded.image is not None
        blocks["text"] = half(encoded.text, name="text")
        blocks["image"] = half(encoded.image, name="image")
        if self.price_blocks:
            products = BlockInputs(
                texts=encoded.texts,
                features=Features(
                    text=blocks["text"],
                    image=blocks["image"],
                    image_ok=encoded.has_photo,
                    fused=blocks["fused"],
                    **split_attributes(blocks["attributes"], self.n_categories),
                ),
            )
            for name, block in self.price_blocks.items():
                blocks[name] = block.predict(products)
        log_price = network
        if self.start_weights is not None:
            other = Start.blended_with(blocks)
            blocks["start"] = blend(self.start_weights, network, other)
            log_price = blocks["start"].astype(np.float64)
        if self.raw_trees is not None:
            raw = self.raw_start + self.raw_trees.add(blocks)
            blocks["lightgbm"] = raw.astype(np.float32)
        return log_price + self.trees.add(blocks)


def half(features: NDArray[np.floating], *, name: str) -> NDArray[np.float32]:
    """Round to float16 and back, as the features of a run are stored.

    Raises
    ------
    CacheError
        If a feature exceeds float16; the message contains `name`.
    """
    return to_float16(features, name=name).astype(np.float32)


def mean_of_boosters(
    boosters: Sequence[Booster], features: NDArray[np.float32], *, n_threads: int
) -> NDArray[np.float64]:
    """Return the mean correction by some boosters, shape (n_products,).

    Parameters
    ----------
    boosters : sequence of Booster
        A booster without trees adds 0 and counts in the mean.
    features : ndarray of shape (n_products, d)
    n_threads : int
    """
    added = np.zeros(len(features))
    for booster in boosters:
        if booster.num_trees():
            raw = booster.predict(features, num_threads=n_threads)
            added += np.asarray(raw) / len(boosters)
    return added


def relative_blocks(
    blocks: Mapping[str, NDArray[Any]],
    log_price_columns: Mapping[str, Sequence[int]],
) -> dict[str, NDArray[Any]]:
    """Make the blocks' log prices relative to the price that the trees start from.

    The trees start from the block `start`, or from `network` without it. One split on
    the difference then replaces a stair of splits on both prices.

    Parameters
    ----------
    blocks : mapping of str to ndarray of shape (n_products, d) or (n_products,)
    log_price_columns : mapping of str to sequence of int
        Columns that are log prices, by block.
    """
    base = next((name for name in STARTS if name in blocks), None)
    if base is None:
        return dict(blocks)
    return {
        name: block
        if name == base
        else _less(block, blocks[base], log_price_columns.get(name, ()))
        for name, block in blocks.items()
    }


def blend(
    weights: NDArray[np.float64],
    network: NDArray[np.floating],
    other: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Multiply powers of the prices of two predictors.

    Parameters
    ----------
    weights : ndarray of shape (2,) or (n_products, 2)
        Exponents of the network's price and of the other price.
    network, other : ndarray of shape (n_products,)
        log1p prices.

    Returns
    -------
    ndarray of shape (n_products,), float32
        log1p price.
    """
    return np.log1p(combine(price_logs(network, other), weights)).astype(np.float32)


def price_logs(
    network: NDArray[np.floating], other: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the ln prices of two predictors' log1p prices, shape (n_products, 2)."""
    return np.column_stack([np.log(to_price(network)), np.log(to_price(other))])


def combine(
    logs: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the blended prices of log prices, shape (n_products, 2), by weights."""
    log_blend: NDArray[np.float64] = (logs * weights).sum(axis=1)
    return np.exp(np.clip(log_blend, -_MAX_LOG_BLEND, _MAX_LOG_BLEND))


def price_factor(prices: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return highest over lowest price of each product; input (networks, products)."""
    factor: NDArray[np.float64] = prices.max(axis=0) / prices.min(axis=0)
    return factor


def _less(
    block: NDArray[Any], base: NDArray[np.floating], columns: Sequence[int]
) -> NDArray[Any]:
    if not len(columns):
        return block
    relative = np.array(block, dtype=np.float32).reshape(len(block), -1)
    relative[:, list(columns)] -= np.asarray(base, np.float32).reshape(-1, 1)
    return relative
