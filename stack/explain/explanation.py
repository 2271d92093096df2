"""Explain the price of one product: its parts, and the effect of each input.

References
----------
Zeiler and Fergus (2014), "Visualizing and Understanding Convolutional Networks":
occlusion, the change when a part of the input is left out.
"""

import dataclasses
import weakref
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stack.explain.parts import Feature, Part, build_up
from stack.explain.variants import Variants, make_variants
from stack.price.calibration import LEVELS, SHARES
from stack.price.predictor import Predictor
from stack.price.similar import PricedProducts, SimilarProduct

MAX_PHRASES = 40
"""Largest number of variants of a text."""

MAX_PHRASES_QUICK = 16
"""The same without a map of the photo, for a fast answer."""

# A service explains many products of one run, so it reads the catalog once.
_product_cache: weakref.WeakKeyDictionary[Predictor, PricedProducts] = (
    weakref.WeakKeyDictionary()
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordEffect:
    """Effect of a word or phrase on the price."""

    text: str

    change_percent: float
    """Change of the price when it is left out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttributeEffect:
    """Effect of a size or a table column: it is unknown, the text is unchanged."""

    name: str
    value: str
    change_percent: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageEffect:
    """Effect of the photo on the price, and of each part of it."""

    without_photo_percent: float

    grid: list[list[float]] | None
    """Change of the price in percent for each patch made white, row by row from the
    top; None without a map."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
    """A price, its parts and the effects of its inputs."""

    price: float
    """Catalog currency."""

    log_price: float
    """log1p price in units of the run, the sum of `parts`."""

    price_unit: float
    """Unit of the log prices, catalog currency."""

    flags: list[str]
    """Reasons to doubt the price, from `stack.price.flags.flag_price`."""

    intervals: dict[str, list[float]]
    """Low and high end, catalog currency, by level in percent."""

    within: dict[str, float]
    """Probability that the price is within so many percent of the true one."""

    unlike: bool
    """Whether the product is unlike all that the run was trained on."""

    parts: list[Part]
    """The network's price first."""

    features: list[Feature]
    """Features of the boosters, largest first; empty if the network predicts alone."""

    words: list[WordEffect]
    """Largest first."""

    attributes: list[AttributeEffect]
    """Of sizes, largest first; those missing from the text are left out."""

    table: list[AttributeEffect]
    """Effects of table columns, largest first; unknown columns are left out."""

    image: ImageEffect | None
    """None without a photo."""

    similar: list[SimilarProduct]
    """Priced products of the run, most similar first."""

    def as_dict(self) -> dict[str, object]:
        """Return the explanation as plain objects for JSON; all numbers are finite."""
        return dataclasses.asdict(self)


def explain_product(
    predictor: Predictor,
    text: str,
    photo: NDArray[np.uint8] | None,
    *,
    cells: Mapping[str, str] | None = None,
    n_words: int = 10,
    image_grid: int = 0,
    n_similar: int = 5,
    exclude_group_of: int | None = None,
) -> Explanation:
    """Explain the price of a product in memory; all variants are priced in one batch.

    Parameters
    ----------
    predictor : Predictor
    text : str
        Catalog text.
    photo : ndarray of uint8, shape (size, size, 3), or None
        Pixels from `load_image` or `decode_photo`, at `predictor.config.photo_size`.
    cells : mapping of str to str, optional
        The product's cells by table column, as `write_cells` returns them.
    n_words : int
        Largest number of words and phrases.
    image_grid : int
        Patches along each side of the photo, made white one at a time; 0 for none.
        Each costs a pass of the photo through every network.
    n_similar : int
        Largest number of similar products.
    exclude_group_of : int, optional
        Catalog row of the product itself, which is left out of the similar products
        with its duplicates.

    Raises
    ------
    ConfigError
        If `image_grid` is out of range.
    ValueError
        If the photo has another size.
    """
    _check_photo(photo, predictor.config.photo_size)
    variants = make_variants(
        text,
        photo,
        n_phrases=MAX_PHRASES if image_grid else MAX_PHRASES_QUICK,
        max_words=predictor.config.max_tokens,
        image_grid=image_grid,
        decimal=predictor.config.decimal,
        table=predictor.run.embed.table,
        cells=cells,
    )
    predicted = predictor.predict(variants.chunk)
    price, confidence = predicted.price, predictor.confidence
    words, attributes, without_photo, grid = variants.split(
        (100 * (price / price[0] - 1)).tolist()
    )
    parts, features = build_up(predictor, predicted)
    return Explanation(
        price=float(price[0]),
        log_price=float(predicted.log_price[0]),
        price_unit=predicted.price_unit,
        flags=predictor.doubts(predicted)[0],
        intervals={
            str(level): [
                float(end[0]) for end in confidence.bounds(predicted, level=level)
            ]
            for level in LEVELS
        },
        within={
            str(percent): float(confidence.within(predicted, percent)[0])
            for percent in SHARES
        },
        unlike=bool(predicted.unlike[0]),
        parts=parts,
        features=features,
        words=_word_effects(variants, words)[: max(n_words, 0)],
        attributes=_attribute_effects(variants, attributes, from_table=False),
        table=_attribute_effects(variants, attributes, from_table=True),
        image=None
        if without_photo is None
        else ImageEffect(without_photo_percent=without_photo, grid=grid),
        similar=_priced_products(predictor).nearest(
            predicted.blocks["fused"][0],
            n=n_similar,
            exclude_group_of=exclude_group_of,
        ),
    )


def _word_effects(variants: Variants, changes: list[float]) -> list[WordEffect]:
    effects = [
        WordEffect(text=phrase.text, change_percent=change)
        for phrase, change in zip(variants.phrases, changes, strict=True)
    ]
    return sorted(effects, key=_size)


def _attribute_effects(
    variants: Variants, changes: list[float], *, from_table: bool
) -> list[AttributeEffect]:
    effects = [
        AttributeEffect(
            name=attribute.name, value=attribute.value, change_percent=change
        )
        for attribute, change in zip(variants.attributes, changes, strict=True)
        if attribute.from_table == from_table
    ]
    return sorted(effects, key=_size)


def _check_photo(photo: NDArray[np.uint8] | None, size: int) -> None:
    if photo is not None and photo.shape != (size, size, 3):
        raise ValueError(
            f"explain_product: photo must have shape {(size, size, 3)}, as the run's "
            f"photos have, got {photo.shape}"
        )


def _size(effect: WordEffect | AttributeEffect) -> float:
    return -abs(effect.change_percent)


def _priced_products(predictor: Predictor) -> PricedProducts:
    if predictor not in _product_cache:
        _product_cache[predictor] = PricedProducts(predictor.run)
    return _product_cache[predictor]
