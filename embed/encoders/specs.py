"""Records of the two encoders: all that later code needs to know of each.

The embedding stage writes them in its manifest, and every later stage reads them there.
"""

from typing import Annotated, Literal

from embed.store.records import Record
from embed.store.rules import Count, CountFromOne, Flag, Real, Rule, Text

Pooling = Literal[
    "cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"
]
"""How token vectors become one vector, by the names of sentence-transformers."""

Library = Literal["torchvision", "transformers", "timm"]
_Channels = Annotated[
    list[Real], Rule("three numbers", lambda values: len(values) == 3)
]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NONE = "none"
"""Name in place of an encoder: the run has none for that input."""

RANDOM = "random"
"""Recorded in place of weights that were drawn at random."""


class TextSpec(Record):
    """A text encoder."""

    model_type: Text
    """Kind of the network in transformers, such as "bert"."""

    dim: CountFromOne
    """Width of the features."""

    n_layers: Count
    max_tokens: CountFromOne
    """Largest number of tokens of a text, its special tokens included."""

    pooling: list[Pooling]
    """Poolings whose results are put side by side; usually one."""

    prefix: Text
    """Text that is put before each product's text."""

    pad_id: Count
    """Token id that pads a text to the longest of its batch."""


class ImageSpec(Record):
    """A photo encoder."""

    library: Library
    name: Text
    """Name of the network in its library."""

    dim: CountFromOne
    """Width of the features."""

    size: CountFromOne
    """Side of the photos that the network was trained on, pixels."""

    takes_any_size: Flag
    """Whether photos of another size are encoded as they are, not resized to `size`."""

    mean: _Channels
    std: _Channels
    """Mean and standard deviation that pixels, 0 to 1, are normalised by."""


EFFICIENTNET_B0 = ImageSpec(
    library="torchvision",
    name="efficientnet_b0",
    dim=1280,
    size=224,
    takes_any_size=True,
    mean=list(IMAGENET_MEAN),
    std=list(IMAGENET_STD),
)
"""The default photo encoder, as torchvision describes it."""
