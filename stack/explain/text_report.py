"""An explanation as text for a terminal, at most 100 columns wide."""

import math
from collections.abc import Iterator

import numpy as np

from embed.catalog.amounts import amount
from embed.text import compose_text, parse_fields
from finetune.price_unit import to_price
from stack.blocks.registry import BLOCKS
from stack.explain.explanation import AttributeEffect, Explanation
from stack.explain.parts import NETWORK, START
from stack.explain.product import RunProduct
from stack.tell.lines import WIDTH, wrap
from stack.tell.numbers import percent

_N_SHOWN_FEATURES = 10
_NOTICEABLE = 0.005  # of the price: float16 and other batch sizes change less
_ROUNDING = 0.05  # of the price: rounding changes less
_PHOTO_NOTES = {
    "file": "The photo is read from its file, as when the run was made.",
    "thumbnail": "The run's photo file is missing or has changed, so its thumbnail "
    "was used; that may change the price by some percent.",
    "none": "The run has no usable photo of it.",
}


def format_explanation(product: RunProduct, explanation: Explanation) -> str:
    """Format an explanation of a product of a run.

    Returns
    -------
    str
        Lines of at most 100 characters.
    """
    sections = (
        _head(product, explanation),
        _build_up(explanation),
        _features(explanation),
        _effects(explanation),
        _photo(explanation),
        _similar(explanation),
    )
    blocks = ("\n".join(lines) for lines in map(list, sections) if lines)
    return "\n\n".join(blocks)


def _head(product: RunProduct, explanation: Explanation) -> Iterator[str]:
    yield _cut(
        f"Product {_printable(product.sample_id)}: {_one_line(product.text)}", WIDTH
    )
    yield wrap(_price(explanation))
    if product.true_price is not None:
        yield f"The true price is {_true_price(product.true_price, explanation)}."
    for flag in explanation.flags:
        yield wrap(f"DOUBT: {flag}.")
    yield wrap(_models(product))
    if product.other_cells:
        yield wrap(
            f"Values of table columns were changed by --table; with its own, the price "
            f"in the run is {amount(product.priced_at)}."
        )
    elif held := _price_in_run(product, explanation):
        yield wrap(held)
    yield wrap(_PHOTO_NOTES[product.photo_source])


def _price(explanation: Explanation) -> str:
    low, high = map(amount, explanation.intervals["80"])
    outer_low, outer_high = map(amount, explanation.intervals["90"])
    return (
        f"Price {amount(explanation.price)}; the 80 % interval is {low} to {high}, the "
        f"90 % interval {outer_low} to {outer_high} (made to contain the price of 80 "
        f"and 90 % of all new products together; `evaluate` shows how many by price). "
        f"The probability that the price is within 20 % of the true one is "
        f"{percent(explanation.within['20'], 0)}; within 10 %, "
        f"{percent(explanation.within['10'], 0)}."
    )


def _price_in_run(product: RunProduct, explanation: Explanation) -> str:
    """Return a sentence on the run's own price if it differs, else nothing."""
    # For a product without a price, the run's own price is not by all folds.
    change = abs(explanation.price / product.priced_at - 1)
    if product.fold < 0 or change <= _NOTICEABLE:
        return ""
    held = f"The price in the run is {amount(product.priced_at)}"
    if product.photo_source == "thumbnail":
        return f"{held}, from the photo's file."
    if change <= _ROUNDING:
        return f"{held}: rounding, or other versions of libraries, changed the price."
    return (
        f"{held}. Rounding does not change a price that much: the network is not sound "
        f"for this product, or other versions of libraries compute another price. "
        f"`pricestack audit` checks it."
    )


def _true_price(price: float, explanation: Explanation) -> str:
    off = 100 * (explanation.price / price - 1)
    side = "above" if off >= 0 else "below"
    for level in ("80", "90"):
        low, high = explanation.intervals[level]
        if low <= price <= high:
            where = f"inside the {level} % interval"
            break
    else:
        where = f"{'below' if price < low else 'above'} the 90 % interval"
    return f"{amount(price)}, {where}; the prediction lies {abs(off):.1f} % {side} it"


def _models(product: RunProduct) -> str:
    if product.fold < 0:
        return "It has no price of its own in the run, so all folds price it together."
    return (
        f"It is priced out of fold: by models that were trained without fold "
        f"{product.fold + 1}, which contains it and its duplicates."
    )


def _build_up(explanation: Explanation) -> Iterator[str]:
    yield "What the price is made of"
    if len(explanation.parts) == 1:
        yield f"  The network alone serves in this run: {amount(explanation.price)}."
        return
    by_trees = (p for p in explanation.parts if p.name not in (NETWORK, START))
    if not any(part.log_price for part in by_trees):
        yield "  No tree helped when this was trained, so the boosters add nothing."
    yield f"  {'':<28}{'log1p price':>13}{'factor':>10}{'step':>14}{'price':>14}"
    before = 0.0
    for part, price in zip(explanation.parts, _running(explanation), strict=True):
        factor = "" if part.name == NETWORK else f"{part.factor:.4f}"
        yield (
            f"  {part.name:<28}{part.log_price:>+13.5f}{factor:>10}"
            f"{_signed(price - before):>14}{amount(price):>14}"
        )
        before = price
    counted = _counted_price(explanation.price_unit)
    yield wrap(
        f"The first column adds up to log(1 + {counted}), so each factor multiplies 1 "
        f"+ {counted}; a step is the resulting change of the price in this order, and "
        'differs in another order. From "all products alike" on, the parts are the '
        "boosters' effects, block by block of features (TreeSHAP).",
        indent="  ",
    )


def _counted_price(unit: float) -> str:
    return "price" if unit == 1 else f"price / {unit:g}"


def _running(explanation: Explanation) -> list[float]:
    total = np.cumsum([part.log_price for part in explanation.parts])
    return [float(price) for price in to_price(total, explanation.price_unit)]


def _features(explanation: Explanation) -> Iterator[str]:
    if not explanation.features:
        return
    yield "Features with the largest effects in the boosters"
    for feature in explanation.features[:_N_SHOWN_FEATURES]:
        percent = 100 * math.expm1(feature.log_price)
        name = _cut(BLOCKS[feature.block].label_of(feature.name), 50)
        yield f"  {percent:>+8.2f} %  {name}  ({feature.block})"


def _effects(explanation: Explanation) -> Iterator[str]:
    yield "Change of the price if a part of the text is left out"
    if not explanation.words:
        yield "  The text has no word to leave out."
    for word in explanation.words:
        yield _cut(f"  {word.change_percent:>+8.2f} %  {_one_line(word.text)}", WIDTH)
    if explanation.attributes:
        yield ""
        yield "Change of the price if a size read from the text is missing"
    yield from map(_effect, explanation.attributes)
    if explanation.table:
        yield ""
        yield "Change of the price if a table column is unknown"
    yield from map(_effect, explanation.table)


def _effect(effect: AttributeEffect) -> str:
    named = " ".join(f"{effect.name}: {effect.value}".split())
    return _cut(f"  {effect.change_percent:>+8.2f} %  {_printable(named)}", WIDTH)


def _photo(explanation: Explanation) -> Iterator[str]:
    image = explanation.image
    if image is None:
        return
    yield (
        f"Change of the price without the photo: {image.without_photo_percent:+.2f} %"
    )
    if image.grid is None:
        return
    yield "Change in percent if a part of the photo is white, as it lies in the photo"
    width = min(7, (WIDTH - 2) // len(image.grid))
    for row in image.grid:
        yield "  " + "".join(_cell(change, width) for change in row)


def _cell(change: float, width: int) -> str:
    """Write a number in at most `width` characters, the first a blank."""
    forms = (f"{change:+.1f}", f"{change:+.0f}", f"{change:+.0e}")
    fitting = (form for form in forms if len(form) < width)
    return next(fitting, "+" * (width - 1)).rjust(width)


def _similar(explanation: Explanation) -> Iterator[str]:
    if not explanation.similar:
        return
    yield "Most similar products with a price, its duplicates left out"
    yield f"  {'cosine':>7}{'price':>14}  product"
    for product in explanation.similar:
        start = f"  {product.similarity:>7.3f}{amount(product.price):>14}  "
        name = f"{_cut(_printable(product.sample_id), 36)}  {_one_line(product.text)}"
        yield _cut(start + name, WIDTH)


def _one_line(text: str) -> str:
    """Return a text's words on one line, without marks of fields or markup."""
    return compose_text(parse_fields(text))


def _printable(text: str) -> str:
    """Return an id or a value without characters that move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _signed(step: float) -> str:
    return f"{'-' if step < 0 else '+'}{amount(abs(step))}"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
