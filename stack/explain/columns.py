"""Columns and blocks of the boosters' features, in words."""

from stack.blocks.kernel import COLUMNS as KERNEL_COLUMNS
from stack.blocks.lexical import COLUMNS as LEXICAL_COLUMNS

_BLOCKS = {
    "network": "network's price as a feature",
    "start": "starting price as a feature",
    "neighbours": "prices of similar products",
    "lexical": "price by words and sizes",
    "kernel": "price by kernel ridge",
    "statistics": "prices by brand and unit",
}
_COLUMNS = {
    "network-0": "the network's price",
    "start-0": "the price by the network and a kernel ridge",
    "lightgbm-0": "the price by LightGBM on raw features",
    LEXICAL_COLUMNS[0]: "the price by a ridge on words and sizes",
    KERNEL_COLUMNS[0]: "the price by a kernel ridge on words and sizes",
    "kernel-weighted": "weighted price of the most alike",
}
_OF_ALIKE = {
    "median": "median price of the {} most alike",
    "quantile": "{} % quantile of prices of the most alike",
    "spread": "spread of prices of the {} most alike",
    "similarity": "similarity of number {} of the most alike",
    "larger": "{} of the most alike, less its own",
}
_SPACES = {
    "text": "by text",
    "image": "by photo",
    "fused": "by text and photo",
    "words": "by words",
}
_OF_NEAREST = {
    "mean": "mean price",
    "weighted": "weighted price",
    "median": "median price",
    "spread": "spread of prices",
    "least": "least price",
    "most": "greatest price",
    "nearest": "distance",
    "distance": "mean distance",
}
_KEYS = {
    "first-word": "first word",
    "two-words": "first two words",
    "unit": "unit",
}
_OF_KEY = {"mean": "mean price", "count": "number of products"}


def spoken_block(block: str) -> str:
    """Return the name of a block in an explanation."""
    return _BLOCKS.get(block, block)


def spoken_column(column: str) -> str:
    """Return the name of a column in an explanation; by default its own."""
    if column in _COLUMNS:
        return _COLUMNS[column]
    block, _, rest = column.partition("-")
    key, _, statistic = rest.rpartition("-")
    if block == "kernel":
        name, _, detail = rest.partition("-")
        return _OF_ALIKE[name].format(detail)
    if block == "neighbours":
        return f"{_OF_NEAREST[statistic]} of the nearest {_SPACES[key]}"
    if block == "statistics":
        return f"{_OF_KEY[statistic]} of the same {_KEYS[key]}"
    return column
