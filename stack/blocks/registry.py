"""All blocks, and the blocks that are not fitted on prices.

Importing it imports NumPy, but neither SciPy nor scikit-learn.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from embed.table.encode import TABLE_PREFIX
from stack.blocks.block import Block, Column, PriceBlock, log_price
from stack.blocks.kernel import Kernel
from stack.blocks.lexical import Lexical
from stack.blocks.neighbours import Neighbours
from stack.blocks.statistics import Statistics

if TYPE_CHECKING:
    from embed.records import EmbedManifest


class Text(Block):
    """Frozen text features."""

    name = label = "text"
    array = "embed/text"
    is_default = False
    is_embedding = True


class Image(Block):
    """Frozen image features."""

    name = label = "image"
    array = "embed/image"
    is_default = False
    is_embedding = True


class Fused(Block):
    """The networks' fused embeddings in their common space."""

    name = label = "fused"
    array = "stack/fused"
    is_embedding = True


class Attributes(Block):
    """Sizes, pack counts and features of table columns."""

    name = label = "attributes"
    array = "embed/attributes"

    @classmethod
    def columns_of(cls, embed: "EmbedManifest") -> tuple[Column, ...]:
        """Return the attributes that the embedding stage has read."""
        first_category = len(embed.attribute_names) - len(embed.category_sizes)
        return tuple(
            Column(name, cls.label_of(name), is_category=place >= first_category)
            for place, name in enumerate(embed.attribute_names)
        )

    @classmethod
    def label_of(cls, column: str) -> str:
        """Return the name of a size or a table column."""
        return column.removeprefix(TABLE_PREFIX)


class Network(Block):
    """Log price by the network, out of fold."""

    name = "network"
    label = "network's price as a feature"
    columns = (log_price("network-0", "the network's price"),)
    array = "finetune/oof_log_price"


class Start(Block):
    """Log price that the trees start from: a blend of network and kernel ridge."""

    name = "start"
    label = "starting price as a feature"
    columns = (log_price("start-0", "the price by the network and a kernel ridge"),)
    computed_from = (Kernel.name,)

    @staticmethod
    def blended_with(blocks: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return the log prices to blend with the network's, shape (n_products,)."""
        return blocks[Kernel.name][:, 0]


class LightGBM(Block):
    """Log price by a LightGBM on the blocks `RAW_BLOCKS`, out of fold."""

    name = label = "lightgbm"
    columns = (log_price("lightgbm-0", "the price by LightGBM on raw features"),)


_GIVEN = (Text, Image, Fused, Attributes, Network, Start, LightGBM)
_FITTED = (Neighbours, Lexical, Kernel, Statistics)
BLOCKS: Mapping[str, type[Block]] = {block.name: block for block in (*_GIVEN, *_FITTED)}
"""All blocks by name, in the order of the default settings."""

PRICE_BLOCKS: Mapping[str, type[PriceBlock]] = {block.name: block for block in _FITTED}
"""Blocks that are fitted on prices, by name."""

RAW_BLOCKS = (Text.name, Image.name, Attributes.name)
"""Blocks that the boosters of the block `lightgbm` are fitted on."""

STARTS = (Start.name, Network.name)
"""Blocks that the trees can start from; they start from the first that is in use."""
