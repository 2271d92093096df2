"""Reasons to doubt a predicted price."""

from embed.catalog.amounts import amount

DISAGREEMENT = 3.0
"""The networks of a run's folds disagree on a product if their highest price is more
than this many times their lowest."""

UNLIKE = "unlike all trained products"

NO_TEXT, NO_PHOTO = "no usable text", "no usable photo"


def flag_price(
    price: float,
    network_factor: float,
    trained: tuple[float, float],
    *,
    unlike: bool,
) -> list[str]:
    """Return the reasons to doubt one price, usually none.

    Parameters
    ----------
    price : float
        Predicted price, catalog currency.
    network_factor : float
        Highest price by the networks of the folds over the lowest one.
    trained : tuple of float
        Cheapest and dearest price that the run was trained on.
    unlike : bool
        Whether the product is unlike all that the run was trained on.
    """
    low, high = trained
    flags = [UNLIKE] if unlike else []
    if price > high:
        flags.append(f"above all trained prices (the dearest is {amount(high)})")
    if price < low:
        flags.append(f"below all trained prices (the cheapest is {amount(low)})")
    if network_factor > DISAGREEMENT:
        flags.append(f"networks disagree by a factor of {network_factor:.1f}")
    return flags
