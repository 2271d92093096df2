"""The network: two backbones, two projections, one fusion head."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embed.attributes import ATTRIBUTE_NAMES
from embed.encoders.pooling import MEAN, pool_tokens
from embed.encoders.specs import EFFICIENTNET_B0, ImageSpec, Pooling
from embed.encoders.towers import normalise_images
from embed.encoders.vision import pool_maps
from finetune.network.layers import upper_layers
from finetune.network.parts import (
    CATEGORY_DIM,
    TOWER_DIM,
    build_head,
    build_projection,
    full_precision,
    optimizer_groups,
    parameters_of,
    project,
    width_of_texts,
    zero_vectors,
)
from finetune.network.wide import WidePart

FUSED_DIM = 2 * TOWER_DIM

PRICE_MARGIN = 2.0
"""Factor by which a predicted price may exceed the range of training prices."""

PHOTO_SPREAD = 0.1
"""Standard deviation of a photo's normalised features.

AdamW moves each weight by about the learning rate, so a half of the embedding moves by
the sum of its inputs: about 50 for the 384 features of a text, 1,000 for 1,280 features
of spread 1. With spread 1 the photo half moved so far that all products were priced
worse, see benchmarks/ABLATIONS.md.
"""

_NO_LIMIT = torch.finfo(torch.float32).max  # finite, as the checks on weights require


class PriceNetwork(nn.Module):
    """Predict the log1p price from text and photo through an embedding of 256 + 256.

    Parameters
    ----------
    text_backbone : nn.Module or None
        Text encoder; its pooled last hidden states describe a text. None without a text
        tower: a learned vector is then the text half of all products.
    image_backbone : nn.Module or None
        Maps images (batch, 3, side, side) to maps or features. None if frozen features
        replace photos.
    pooling : sequence of str
        Pooling of the last hidden states.
    image_spec : ImageSpec or None
        Photo encoder; None if no product has a photo.
    n_attributes : int
        Number of the head's inputs from attributes: each value, and a flag for each
        whether it is known.
    category_sizes : sequence of int
        Number of codes of each category, 0 to size - 1; the last columns of the
        attributes. The head gets a learned vector of each, 0 for a code that no
        training product has.
    use_wide : bool
        Whether the head also gets the log price from `finetune.network.wide`.
    head_dropout : float
    freeze_batch_norm : bool
        Whether the image backbone's batch statistics stay fixed in training.
    bound_price : bool
        Whether prices are limited to `PRICE_MARGIN` times the dearest training price
        and the cheapest divided by it.
    normalise_image : bool
        Whether each photo's features are scaled to mean 0 and standard deviation
        `PHOTO_SPREAD` before the projection.

    Notes
    -----
    A product without a photo gets a learned vector as its image half and skips the
    image tower. The head works in standardised log price; the
    median and spread of the training prices are buffers, so an untrained head starts
    at the median.
    """

    price_centre: torch.Tensor
    price_scale: torch.Tensor
    price_limits: torch.Tensor
    attribute_mean: torch.Tensor
    attribute_scale: torch.Tensor

    _upper_text: nn.Module

    def __init__(
        self,
        text_backbone: nn.Module | None,
        image_backbone: nn.Module | None,
        *,
        pooling: Sequence[Pooling] = MEAN,
        image_spec: ImageSpec | None = EFFICIENTNET_B0,
        n_attributes: int = 0,
        category_sizes: Sequence[int] = (),
        use_wide: bool = False,
        head_dropout: float = 0.25,
        freeze_batch_norm: bool = True,
        bound_price: bool = True,
        normalise_image: bool = True,
    ) -> None:
        super().__init__()
        self.text_backbone = text_backbone
        self.image_backbone = image_backbone
        self.pooling, self.image_spec = tuple(pooling), image_spec
        self.text_dim, self.image_dim = width_of_texts(text_backbone, pooling), 0
        self.text_projection = build_projection(self.text_dim)
        if image_spec is not None:
            self.image_dim = image_spec.dim
        self.image_projection = build_projection(self.image_dim)
        if text_backbone is None:
            self.missing_text = nn.Parameter(torch.zeros(TOWER_DIM))
        self.missing_image = nn.Parameter(torch.zeros(TOWER_DIM))
        self.category_vectors = nn.ModuleList(
            zero_vectors(size) for size in category_sizes
        )
        n_sizes = min(n_attributes // 2, len(ATTRIBUTE_NAMES))
        self.wide = WidePart(n_sizes) if use_wide else None
        n_inputs = n_attributes + CATEGORY_DIM * len(category_sizes) + use_wide
        self.head = build_head(FUSED_DIM + n_inputs, head_dropout)
        self.freeze_batch_norm = freeze_batch_norm
        self.bound_price = bound_price
        self.normalise_image = normalise_image
        self.n_attributes = n_attributes
        self.register_buffer("price_centre", torch.zeros(()))
        self.register_buffer("price_scale", torch.ones(()))
        self.register_buffer("price_limits", torch.tensor([-_NO_LIMIT, _NO_LIMIT]))
        # Attributes are standardised by the training rows; 0 where unknown.
        self.register_buffer("attribute_mean", torch.zeros(n_attributes // 2))
        self.register_buffer("attribute_scale", torch.ones(n_attributes // 2))

    def train(self, mode: bool = True) -> "PriceNetwork":
        """Set training mode; frozen batch norms of the photo tower do not train."""
        super().train(mode)
        if self.freeze_batch_norm and self.image_backbone is not None:
            for module in self.image_backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def fit_scales(
        self, log_price: NDArray[np.float64], attributes: NDArray[np.float32]
    ) -> None:
        """Set the buffers from training rows only.

        Parameters
        ----------
        log_price : ndarray of shape (n_train,), log1p price
        attributes : ndarray of shape (n_train, n_columns), NaN where unknown
            Values, n_attributes / 2 of them; the codes of categories after them are
            not used.
        """
        self.fit_limits(log_price)
        self.price_centre.fill_(float(np.median(log_price)))
        self.price_scale.fill_(max(float(log_price.std()), 1e-3))
        for column in range(len(self.attribute_mean)):
            known = attributes[:, column][~np.isnan(attributes[:, column])]
            if len(known):
                self.attribute_mean[column] = float(known.mean())
                self.attribute_scale[column] = max(float(known.std()), 1e-3)

    def fit_limits(self, log_price: NDArray[np.float64]) -> None:
        """Set the limits of prices from the log1p prices of training rows."""
        if self.bound_price:
            least, greatest = np.expm1([log_price.min(), log_price.max()])
            limits = np.log1p([least / PRICE_MARGIN, greatest * PRICE_MARGIN])
            self.price_limits.copy_(torch.from_numpy(limits))

    def begin_text_at(self, n_layers: int) -> None:
        """Prepare `fuse` to start from the output of a BERT's first layers.

        Parameters
        ----------
        n_layers : int
            Number of layers whose output `fuse` gets as `hidden`.
        """
        assert self.text_backbone is not None
        # Bypasses nn.Module, which would register the layers twice.
        self.__dict__["_upper_text"] = upper_layers(self.text_backbone, n_layers)

    def fuse(
        self,
        tokens: torch.Tensor,
        mask: torch.Tensor,
        photos: torch.Tensor,
        image_rows: torch.Tensor,
        hidden: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embed products.

        Parameters
        ----------
        tokens, mask : int64 Tensors of shape (batch, length)
        photos : uint8 Tensor of shape (n_images, size, size, 3)
            Without an image backbone, float32 features of shape (n_images, image dim).
        image_rows : int64 Tensor of shape (n_images,)
            Rows of the batch that the images belong to; the others have no photo.
        hidden : Tensor of shape (batch, length, text dim), optional
            Output of the text backbone's first layers, after `begin_text_at`.

        Returns
        -------
        float32 Tensor of shape (batch, 512): text half, then image half
        """
        if self.text_backbone is None:
            text = torch.zeros(len(tokens), 0, device=tokens.device)
        else:
            if hidden is None:
                output = self.text_backbone(input_ids=tokens, attention_mask=mask)
            else:
                output = self._upper_text(
                    inputs_embeds=hidden.float(), attention_mask=mask
                )
            text = pool_tokens(output.last_hidden_state, mask, self.pooling)
        image = self.pool_images(photos) if len(image_rows) else None
        return self.combine(text, image, image_rows)

    def combine(
        self,
        text: torch.Tensor,
        image: torch.Tensor | None,
        image_rows: torch.Tensor,
    ) -> torch.Tensor:
        """Project the towers' features into the fused embedding.

        Parameters
        ----------
        text : float32 Tensor of shape (batch, text dim)
            Pooled last hidden states of the text backbone.
        image : float32 Tensor of shape (n_images, image dim), or None without photos
            Features of the image backbone.
        image_rows : int64 Tensor of shape (n_images,)
            Rows of the batch that the photos belong to.

        Returns
        -------
        float32 Tensor of shape (batch, 512): text half, then image half
        """
        with full_precision(text):
            text_half = self.project_text(text)
            image_half = self.missing_image.to(text_half.dtype).expand(len(text), -1)
            if image is not None:
                projected = self.project_image(image)
                image_half = image_half.index_copy(0, image_rows, projected)
        return torch.cat([text_half, image_half], dim=1)

    def project_text(self, text: torch.Tensor) -> torch.Tensor:
        """Return the text half of the fused embedding of texts.

        Parameters
        ----------
        text : float32 Tensor of shape (batch, text dim)

        Returns
        -------
        float32 Tensor of shape (batch, 256)
        """
        if not self.text_dim:
            dtype = next(self.head.parameters()).dtype
            return self.missing_text.to(dtype).expand(len(text), -1)
        return project(self.text_projection, text)

    def project_image(self, image: torch.Tensor) -> torch.Tensor:
        """Return the image half of the fused embedding of photos.

        Text features come from a layer norm. Photo features are normalised here, as
        those of one photo may be a hundred times as long as those of another, and
        scaled by `PHOTO_SPREAD`.

        Parameters
        ----------
        image : float32 Tensor of shape (n_images, image dim)

        Returns
        -------
        float32 Tensor of shape (n_images, 256)
        """
        if self.normalise_image:
            image = PHOTO_SPREAD * nn.functional.layer_norm(image, (self.image_dim,))
        return project(self.image_projection, image)

    def pool_images(self, photos: torch.Tensor) -> torch.Tensor:
        """Return the photo tower's features, shape (n_images, image dim).

        Parameters
        ----------
        photos : Tensor
            Photos as `fuse` takes them.
        """
        if self.image_backbone is None:
            return photos
        assert self.image_spec is not None
        images = normalise_images(photos, self.image_spec.mean, self.image_spec.std)
        # On a CPU the backward pass of bf16 depthwise convolutions is many times
        # slower than in fp32, which outweighs the gain elsewhere.
        in_fp32 = images.device.type == "cpu"
        with full_precision(images) if in_fp32 else contextlib.nullcontext():
            maps: torch.Tensor = self.image_backbone(images)
        return pool_maps(maps)

    def price_wide(
        self, tokens: torch.Tensor, mask: torch.Tensor, attributes: torch.Tensor
    ) -> torch.Tensor | None:
        """Return the wide part's log1p price, shape (batch,), or None without one.

        Parameters
        ----------
        tokens, mask : int64 Tensors of shape (batch, length)
        attributes : float32 Tensor of shape (batch, n_columns), NaN: unknown
        """
        if self.wide is None:
            return None
        sizes = attributes[:, : len(self.wide.edges)]
        with full_precision(sizes):
            return cast(torch.Tensor, self.wide(tokens, mask, sizes))

    def price(
        self,
        fused: torch.Tensor,
        attributes: torch.Tensor,
        wide: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict log1p prices, shape (batch,), from embeddings and attributes.

        Parameters
        ----------
        fused : Tensor of shape (batch, 512)
        attributes : float32 Tensor of shape (batch, n_columns), NaN: unknown
            Values, n_attributes / 2 of them, then the code of each category.
        wide : float32 Tensor of shape (batch,)
            Log price from `price_wide`; None without a wide part.
        """
        n_values = self.n_attributes // 2
        if n_values:
            values = attributes[:, :n_values]
            known = ~torch.isnan(values)
            scaled = (values - self.attribute_mean) / self.attribute_scale
            scaled = torch.where(known, scaled, 0).clamp(-5, 5)
            fused = torch.cat([fused, scaled, known.float()], dim=1)
        first = attributes.shape[1] - len(self.category_vectors)
        for column, vectors in enumerate(self.category_vectors, start=first):
            codes = attributes[:, column].nan_to_num(0).long()
            fused = torch.cat([fused, vectors(codes)], dim=1)
        if self.wide is not None:
            assert wide is not None
            scaled = (wide - self.price_centre) / self.price_scale
            fused = torch.cat([fused, scaled.clamp(-5, 5)[:, None]], dim=1)
        with full_precision(fused):  # bf16 would round a price to 1 %
            inputs = fused.to(next(self.head.parameters()).dtype)
            standardised: torch.Tensor = self.head(inputs).squeeze(1).float()
        log_price = standardised * self.price_scale + self.price_centre
        if self.training:  # a clamped price has no gradient
            return log_price
        # A clamp alone would turn an infinite price into a price at a limit.
        return log_price.clamp(*self.price_limits) + 0 * log_price

    def parameter_groups(
        self, *, text: float, image: float, fusion: float, weight_decay: float
    ) -> list[dict[str, object]]:
        """Return AdamW's groups: three learning rates, decay on matrices only.

        Parameters
        ----------
        text, image, fusion : float
            Learning rates of the backbones, and of projections and head.
        weight_decay : float
        """
        rates = (
            (text, parameters_of(self.text_backbone)),
            (image, parameters_of(self.image_backbone)),
            (fusion, self._fusion_parameters()),
        )
        return [
            group
            for rate, parameters in rates
            for group in optimizer_groups(parameters, rate, weight_decay)
        ]

    def _fusion_parameters(self) -> Iterable[nn.Parameter]:
        for module in (
            self.text_projection,
            self.image_projection,
            self.category_vectors,
            self.head,
        ):
            yield from module.parameters()
        yield self.missing_image
        if self.text_backbone is None:
            yield self.missing_text
