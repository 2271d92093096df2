"""`python -m embed`: turn a catalog and its photos into feature arrays."""

from pathlib import Path
from typing import Any, get_args

import click
import numpy as np

from embed.catalog.currencies import DecimalSign
from embed.catalog.price_checks import (
    describe_unpriced,
    doubtful_price,
    parseable_price,
)
from embed.catalog.reader import Catalog
from embed.config import Backend, EmbedConfig, Precision, TextDecimalSign
from embed.encoders.specs import NONE
from embed.terminal.catalog_options import (
    catalog_option,
    catalog_options,
    read_and_mention,
    table_options,
    take_columns,
)
from embed.terminal.options import one_line_errors, run_option


@click.command("embed")
@catalog_option
@click.option(
    "--images",
    "images_dir",
    type=click.Path(path_type=Path),
    help="Folder of the photos, named as in the links or by sample_id.",
)
@run_option
@click.option(
    "--reuse",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="RUN",
    help="Run whose features are reused: only texts and photos that it lacks are "
    "encoded. Photos are compared by their bytes, not only by name and size.  "
    "[default: an earlier stage of the same run]",
)
@catalog_options
@table_options
@click.option(
    "--parse-prices",
    is_flag=True,
    help='Read prices such as "$1,299.00", "1.299,00 €" or "12,50", in later stages '
    "too.",
)
@click.option(
    "--decimal-sign",
    type=click.Choice(get_args(DecimalSign)),
    help="Decimal sign of the prices: with . 1,299 is 1299; with , 1.299 is 1299, and "
    "--parse-prices is on. Default: inferred from the column and its currency.",
)
@click.option(
    "--text-encoder",
    default=EmbedConfig.text_encoder,
    show_default=True,
    help="Name or folder of a text encoder, such as BAAI/bge-small-en-v1.5; none: no "
    "text features. docs/encoders.md lists what can be used.",
)
@click.option(
    "--image-encoder",
    default=EmbedConfig.image_encoder,
    show_default=True,
    help="Photo encoder: a network of torchvision such as resnet50, a name on the hub, "
    "a folder, a file with weights of EfficientNet-B0, or NAME=FILE; none: no photo is "
    "read.",
)
@click.option(
    "--text-prefix",
    help="Prefix of each product's text, such as 'passage: ' for E5.  [default: the "
    "encoder's prompt for documents, if it records one]",
)
@click.option(
    "--random-weights",
    is_flag=True,
    help="If the weights of the photo encoder cannot be found, start it from random "
    "numbers.",
)
@click.option(
    "--max-tokens",
    default=EmbedConfig.max_tokens,
    show_default=True,
    help="Largest number of tokens of a text; the rest is cut off.",
)
@click.option(
    "--image-size",
    type=int,
    help="Side of the thumbnails, pixels.  [default: that of the photo encoder, 224 "
    "for EfficientNet-B0]",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default=EmbedConfig.precision,
    show_default=True,
    help="auto: bf16 if the processor has it, else fp32, which is exact.",
)
@click.option(
    "--backend",
    type=click.Choice(get_args(Backend)),
    default=EmbedConfig.backend,
    show_default=True,
    help="Backend that computes the features; auto: the fastest that is installed.",
)
@click.option(
    "--threads",
    "n_threads",
    default=EmbedConfig.n_threads,
    show_default=True,
    help="Threads for arithmetic.",
)
@click.option(
    "--workers",
    "n_workers",
    default=EmbedConfig.n_workers,
    show_default=True,
    help="Threads that decode photos; their number does not change the arrays.",
)
@click.option(
    "--keep-shared-photos",
    is_flag=True,
    help="Use a picture that many unlike products share. By default it counts as a "
    "stand-in, so these products have no photo.",
)
@click.option(
    "--seed",
    default=EmbedConfig.seed,
    show_default=True,
    help="Seed of the random weights.",
)
@click.option(
    "--text-decimal-sign",
    type=click.Choice(get_args(TextDecimalSign)),
    default=EmbedConfig.text_decimal_sign,
    show_default=True,
    help='Decimal sign of sizes in texts: with . "1,500 g" is 1500 g. auto: inferred '
    "from the names of the products. Later stages use the same sign.",
)
@one_line_errors
def embed_command(
    catalog_path: Path,
    images_dir: Path | None,
    run_dir: Path,
    reuse: Path | None,
    **settings: Any,
) -> None:
    """Turn a catalog and its photos into feature arrays, in RUN/embed.

    \b
    Example:
      pricestack embed catalog.csv --images photos --run runs/mine
      pricestack embed products_export.csv --run runs/shop
      pricestack embed changed.csv --images photos --run runs/new --reuse runs/mine
    """
    settings["parse_prices"] |= settings["decimal_sign"] == ","
    columns = take_columns(settings)
    config = EmbedConfig(**settings)
    catalog = read_and_mention(catalog_path, columns)
    _mention_prices(catalog)
    has_encoder = (config.text_encoder, config.image_encoder) != (NONE, NONE)
    loading = ". Loading the encoders …" if has_encoder else ""
    click.echo(f"{catalog.n_products} products{loading}", err=True)
    from embed.extract import extract  # late, because it imports torch
    from embed.photos.stand_ins import describe_stand_ins

    manifest = extract(
        catalog, run_dir, images_dir=images_dir, config=config, reuse=reuse
    )
    substituted = manifest.substituted
    click.echo(
        f"{manifest.n_products} products embedded in {manifest.seconds:.0f} s "
        f"({run_dir / 'embed'})."
    )
    if stand_ins := describe_stand_ins(manifest):
        click.echo(stand_ins)
    if substituted.text or substituted.image:
        click.echo(
            f"Placeholders: {substituted.text} without usable text, "
            f"{substituted.image} without a usable photo; each with its reason in "
            f"{run_dir / 'embed' / 'problems.csv'}."
        )


def _mention_prices(catalog: Catalog) -> None:
    _mention_unpriced(catalog)
    doubtful = doubtful_price(catalog)
    if doubtful is not None:
        click.echo(f"Note: {doubtful}", err=True)


def _mention_unpriced(catalog: Catalog) -> None:
    if catalog.price is None or not np.isnan(catalog.price).any():
        return
    offer = ""
    if readable_price := parseable_price(catalog):
        example, options = readable_price
        offer = f" Prices such as {example!r} are read with {options}."
    click.echo(
        f"Note: {int(np.isnan(catalog.price).sum())} of {catalog.n_products} products "
        f"have no usable price ({describe_unpriced(catalog)}); fine-tuning will ask "
        f"for --drop-unpriced.{offer}",
        err=True,
    )


if __name__ == "__main__":
    embed_command()
