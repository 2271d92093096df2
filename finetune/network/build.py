"""Build a network from its encoders; choose the layers that are not trained."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from embed.encoders.pooling import MEAN
from embed.encoders.specs import EFFICIENTNET_B0, ImageSpec, Pooling
from embed.encoders.towers import load_image_backbone, load_text_backbone
from embed.errors import ConfigError
from finetune.network.model import PriceNetwork


def build_network(
    text_weights: Path | None,
    image_weights: Path | None,
    *,
    pooling: Sequence[Pooling] = MEAN,
    image_spec: ImageSpec | None = EFFICIENTNET_B0,
    n_attributes: int,
    category_sizes: Sequence[int] = (),
    use_wide: bool = False,
    head_dropout: float,
    encoder_dropout: float,
    freeze_batch_norm: bool,
    bound_price: bool = True,
    normalise_image: bool = True,
    freeze_layers: int | None = 0,
    no_image_backbone: bool = False,
    seed: int,
) -> PriceNetwork:
    """Load both backbones and initialise projections and head from `seed`.

    Parameters
    ----------
    text_weights : Path or None
        None for a network without a text tower.
    image_weights : Path or None
        None for random weights, drawn from `seed`.
    pooling : sequence of str
        Pooling of the text tower.
    image_spec : ImageSpec or None
        None for a network without photos.
    n_attributes : int
        Columns of values of the attribute array; the head gets each with a flag
        "known".
    category_sizes : sequence of int
        Number of codes of each category, the last columns of the attribute array.
    use_wide : bool
        Whether the head also gets the log price from `finetune.network.wide`.
    head_dropout, encoder_dropout : float
        Dropout of the head and of the text backbone.
    freeze_batch_norm, bound_price, normalise_image : bool
        As for `PriceNetwork`.
    freeze_layers : int or None
        Number of first layers of the text backbone that are not trained, with its
        embedding; None: two thirds of them.
    no_image_backbone : bool
        Whether frozen features replace photos, or photos are not used.
    seed : int

    Raises
    ------
    ConfigError
        If the text backbone has fewer layers than `freeze_layers`.
    """
    text_backbone = image_backbone = None
    if text_weights is not None:
        text_backbone = load_text_backbone(text_weights, dropout=encoder_dropout)
        freeze_text_layers(text_backbone, freeze_layers)
    if image_spec is not None and not no_image_backbone:
        image_backbone = load_image_backbone(image_weights, image_spec, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PriceNetwork(
            text_backbone,
            image_backbone,
            pooling=pooling,
            image_spec=image_spec,
            n_attributes=2 * n_attributes,
            category_sizes=category_sizes,
            use_wide=use_wide,
            head_dropout=head_dropout,
            freeze_batch_norm=freeze_batch_norm,
            bound_price=bound_price,
            normalise_image=normalise_image,
        )


def freeze_text_layers(backbone: nn.Module, n_layers: int | None) -> None:
    """Exclude the embedding and the first layers of a text encoder from training.

    Parts that all layers share, such as vectors of relative positions, are too.

    Parameters
    ----------
    backbone : nn.Module
    n_layers : int or None
        Number of layers; 0 excludes nothing, None the first two thirds.

    Raises
    ------
    ConfigError
        If the encoder has fewer layers.
    """
    n_layers = n_frozen_layers(backbone, n_layers)
    if not n_layers:
        return
    parent, layers = _layers(backbone)
    if n_layers > len(layers):
        raise ConfigError(
            f"--freeze-layers must be 0 to {len(layers)}, the layers of the text "
            f"encoder, got {n_layers}"
        )
    frozen = [m for name, m in backbone.named_children() if "embed" in name]
    if parent is not backbone:
        frozen += [module for module in parent.children() if module is not layers]
    for module in [*frozen, *layers[:n_layers]]:
        module.requires_grad_(False)


def n_frozen_layers(backbone: nn.Module, n_layers: int | None) -> int:
    """Return the number of an encoder's layers that the setting freezes."""
    return len(_layers(backbone)[1]) * 2 // 3 if n_layers is None else n_layers


def n_text_layers(backbone: nn.Module) -> int:
    """Return the number of an encoder's layers."""
    return len(_layers(backbone)[1])


def _layers(backbone: nn.Module) -> tuple[nn.Module, nn.ModuleList]:
    """Return an encoder's layers, its first list of modules, and the list's parent."""
    for parent in backbone.modules():
        for module in parent.children():
            if isinstance(module, nn.ModuleList):
                return parent, module
    return backbone, nn.ModuleList()


def use_eager_attention(backbone: nn.Module) -> None:
    """Make a text backbone compute attention by matrix products, if it has a choice."""
    choose = getattr(backbone, "set_attn_implementation", None)
    if callable(choose):  # older versions of transformers cannot
        choose("eager")
