"""LightGBM on what network and kernel ridge miss, the verdict, and predictions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stack.notebook.regressor import PriceRegressor

__all__ = ["PriceRegressor"]


def __getattr__(name: str) -> object:
    """Import the regressor, and torch and LightGBM with it, when it is asked for."""
    if name == "PriceRegressor":
        from stack.notebook.regressor import PriceRegressor

        return PriceRegressor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
