"""Split a BERT into its first layers and the rest."""

import copy
from typing import Any

import torch
from torch import nn


class Embedded(nn.Module):
    """Replacement for a backbone's embedding when its input is already embedded."""

    def forward(self, *, inputs_embeds: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return the input."""
        return inputs_embeds


def can_be_split(backbone: nn.Module) -> bool:
    """Return whether the encoder is a BERT, whose parts around the layers are known."""
    return getattr(backbone.config, "model_type", "") == "bert"


def lower_layers(backbone: nn.Module, n_layers: int) -> nn.Module:
    """Return a BERT's embedding and first layers; it shares their parameters."""
    return _part(backbone, slice(None, n_layers), {})


def upper_layers(backbone: nn.Module, n_layers: int) -> nn.Module:
    """Return a BERT without its embedding and first layers, sharing parameters.

    It takes `inputs_embeds` and `attention_mask`.
    """
    return _part(backbone, slice(n_layers, None), {"embeddings": Embedded()})


def _part(
    backbone: nn.Module, layers: slice, others: dict[str, nn.Module]
) -> nn.Module:
    whole: Any = backbone
    encoder = copy.copy(whole.encoder)
    encoder._modules = {**encoder._modules, "layer": whole.encoder.layer[layers]}
    part = copy.copy(whole)
    part._modules = {**part._modules, "encoder": encoder, **others}
    module: nn.Module = part
    return module
