"""Build a run's networks from its encoders; save and load them as safetensors."""

from pathlib import Path

from safetensors.torch import load_file, save

from embed.encoders.pooling import MEAN
from embed.encoders.weights import weights_of_run
from embed.errors import CacheError
from embed.records import EmbedManifest
from embed.store.durable import write_bytes
from embed.store.manifest import remedy
from finetune.config import FinetuneConfig
from finetune.network.build import build_network
from finetune.network.model import PriceNetwork

MODEL_NAME = "model.safetensors"


def network_folder(stage_dir: Path, fold: int, seed_at: int) -> Path:
    """Return the folder of the `seed_at`-th network of a fold, counted from 0."""
    return stage_dir / (f"fold-{fold}" + (f"-seed-{seed_at}" if seed_at else ""))


def network_of_run(embed: EmbedManifest, config: FinetuneConfig) -> PriceNetwork:
    """Build a run's untrained network from the encoders of its embedding stage.

    Parameters
    ----------
    embed : EmbedManifest
        Manifest of the embedding stage.
    config : FinetuneConfig

    Raises
    ------
    WeightsError
        If an encoder's weights are missing or have changed since.
    """
    text, image = weights_of_run(embed)
    text_spec, image_spec = embed.inputs.text_spec, embed.inputs.image_spec
    sizes = embed.category_sizes
    n_values = len(embed.attribute_names) - len(sizes)
    use_attributes = config.use_attributes and config.sees_text
    return build_network(
        text,
        image,
        pooling=text_spec.pooling if text_spec else MEAN,
        image_spec=image_spec,
        n_attributes=n_values if use_attributes else 0,
        category_sizes=sizes if use_attributes else (),
        use_wide=config.use_wide and config.sees_text and text is not None,
        head_dropout=config.head_dropout,
        encoder_dropout=config.encoder_dropout,
        # Random weights have no statistics that fit them.
        freeze_batch_norm=config.freeze_batch_norm and image is not None,
        bound_price=config.bound_price,
        normalise_image=config.normalise_image,
        freeze_layers=config.freeze_layers,
        no_image_backbone=config.freeze_image or not config.sees_photos,
        seed=config.seed,
    )


def save_network(network: PriceNetwork, fold_dir: Path) -> None:
    """Write a network's weights whole or not at all."""
    state = {k: v.contiguous().cpu() for k, v in network.state_dict().items()}
    write_bytes(fold_dir / MODEL_NAME, save(state))


def load_network(
    stage_dir: Path,
    fold: int,
    seed_at: int,
    *,
    embed: EmbedManifest,
    config: FinetuneConfig,
) -> PriceNetwork:
    """Load a network of a finished fold, ready to predict.

    Parameters
    ----------
    stage_dir : Path
        The fine-tuning stage's folder.
    fold, seed_at : int
        Number of the fold and of the seed, as in `network_folder`.
    embed : EmbedManifest
        Manifest of the embedding stage.
    config : FinetuneConfig

    Raises
    ------
    CacheError
        If the weights are missing or do not fit.
    """
    network = network_of_run(embed, config)
    load_weights(network, network_folder(stage_dir, fold, seed_at), stage_dir)
    return network.eval()


def load_weights(network: PriceNetwork, folder: Path, stage_dir: Path) -> None:
    """Load the weights that `save_network` wrote into a network.

    Raises
    ------
    CacheError
        If they are missing or do not fit.
    """
    path = folder / MODEL_NAME
    try:
        network.load_state_dict(load_file(path))
    except Exception as error:  # safetensors has its own kinds for each bad file
        raise CacheError(
            f"{path}: not the weights of this network ({error}). {remedy(stage_dir)}"
        ) from error
