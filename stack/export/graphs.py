"""Towers and heads of a run as ONNX graphs, in float32.

They are traced: PyTorch's other exporter takes seven times as long for the same
graphs, 13 s instead of 2 s for EfficientNet-B0.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embed.encoders.pooling import MEAN
from embed.encoders.specs import EFFICIENTNET_B0, ImageSpec, Pooling
from embed.encoders.towers import ImageTower, TextTower, example_tokens
from embed.errors import InputError
from embed.store.durable import named_errors
from finetune.network.model import PriceNetwork
from finetune.network.parts import TOWER_DIM

OPSET = 17


class AlignedHead(nn.Module):
    """The part of a network after its towers: projections, head and alignment.

    Parameters
    ----------
    network : PriceNetwork
    alignment : ndarray of shape (513, 512)
        Result of `stack.trees.alignment.fit_alignment` for the fold.
    """

    rotation: torch.Tensor
    offset: torch.Tensor

    def __init__(self, network: PriceNetwork, alignment: NDArray[np.floating]) -> None:
        super().__init__()
        self.network = network
        exact = torch.from_numpy(alignment.astype(np.float64))
        self.register_buffer("rotation", exact[:-1])
        self.register_buffer("offset", exact[-1])

    def forward(
        self,
        text: torch.Tensor,
        image: torch.Tensor,
        has_photo: torch.Tensor,
        attributes: torch.Tensor,
        tokens: torch.Tensor,
        mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Turn features of towers into log1p price (n,) and aligned fused (n, 512).

        The wide part uses the tokens.
        """
        has_photo, network = has_photo[:, None], self.network
        # Without a tower, its half is the same for any number of products.
        zeros = torch.zeros_like(has_photo, dtype=torch.float32)
        if network.text_dim:
            text_half = network.project_text(text)
        else:
            text_half = network.missing_text + zeros
        image_half = network.missing_image + zeros
        if network.image_dim:
            projected = network.project_image(image)
            image_half = torch.where(has_photo, projected, network.missing_image)
        fused = torch.cat([text_half, image_half], dim=1)
        aligned = (fused.double() @ self.rotation + self.offset).float()
        in_text = torch.arange(aligned.shape[1]) < TOWER_DIM
        aligned = torch.where(has_photo | in_text, aligned, 0.0)
        wide = self.network.price_wide(tokens, mask, attributes)
        return self.network.price(fused, attributes, wide), aligned


def write_text_tower(
    backbone: nn.Module, path: Path, pooling: Sequence[Pooling] = MEAN
) -> None:
    """Write a text tower: tokens, mask (batch, length) to features (batch, dim)."""
    tower = TextTower(backbone, pooling)
    tokens, mask = tower.example_inputs()
    _write(tower, path, {"tokens": tokens, "mask": mask}, ("features",))


def write_image_tower(
    backbone: nn.Module, path: Path, *, size: int, spec: ImageSpec = EFFICIENTNET_B0
) -> None:
    """Write an image tower: pixels (batch, size, size, 3) to features (batch, dim).

    The backbone's batch norms are fused into its convolutions.
    """
    tower = ImageTower(backbone, size=size, spec=spec, exact_start=False)
    (pixels,) = tower.example_inputs()
    _write(tower, path, {"pixels": pixels}, ("features",))


def write_head(
    network: PriceNetwork,
    alignment: NDArray[np.floating],
    path: Path,
    *,
    n_attributes: int,
) -> None:
    """Write the part of a network after its towers.

    Parameters
    ----------
    network : PriceNetwork
        Network to write.
    alignment : ndarray of shape (513, 512)
        Alignment of the fold.
    path : Path
    n_attributes : int
        Number of columns of the attribute array.
    """
    inputs = {
        "text": torch.zeros(2, network.text_dim),
        "image": torch.zeros(2, network.image_dim),
        "has_photo": torch.tensor([True, False]),
        "attributes": torch.zeros(2, n_attributes),
        **dict(zip(("tokens", "mask"), example_tokens(), strict=True)),
    }
    head = AlignedHead(network, alignment).eval()
    _write(head, path, inputs, ("log_price", "fused"))


def _write(
    module: nn.Module,
    path: Path,
    inputs: dict[str, torch.Tensor],
    outputs: tuple[str, ...],
) -> None:
    axes = {name: {0: "batch"} for name in (*inputs, *outputs)}
    for name in ("tokens", "mask"):
        if name in axes:
            axes[name][1] = "length"
    with warnings.catch_warnings(), torch.no_grad(), named_errors(path):
        warnings.simplefilter("ignore")  # tracing is deprecated and ignores branches
        try:
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=axes,
            )
        except OSError:
            raise
        except Exception as error:  # an operator that ONNX or tracing does not have
            reason = str(error).strip().partition("\n")[0][:200]
            raise InputError(
                f"{path.name}: this encoder cannot be written as ONNX "
                f"({type(error).__name__}: {reason}). `pricestack predict` prices "
                f"with the run."
            ) from error
