"""Records that the embedding stage writes."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from embed.catalog.columns import CatalogColumns
from embed.config import EmbedConfig
from embed.encoders.specs import ImageSpec, TextSpec
from embed.errors import CacheError
from embed.formats import TEXT_FORMAT
from embed.store.manifest import make_command, require_stage
from embed.store.records import FileRecord, Manifest, Record
from embed.store.rules import Count, CountFromOne, FileName, Real, Requires, Text, Whole
from embed.table.encode import TableColumn


class Substituted(Record):
    """Numbers of products with a placeholder in place of a text or photo."""

    text: Count
    image: Count


class StandIn(Record):
    """A picture that stands in for the photos of unlike products."""

    sha256: Text
    """sha256 of the picture's thumbnail."""

    n_products: Count
    sample_id: Text
    """First product of the catalog that has the picture."""


class EmbedInputs(Record):
    """Inputs that the features were made from."""

    format: Whole = 0
    text_format: Whole = 1
    settings: dict[str, object] = Field(default_factory=dict)
    dtype: Text = ""
    backend: Text = ""
    catalog_sha256: Text
    sample_id_sha256: Text = ""
    photos_sha256: Text = ""
    """sha256 of the names and sizes of all photos."""
    photo_bytes_sha256: Text = ""
    """sha256 of the sha256 of all photos."""
    text_weights_sha256: Text
    image_weights_sha256: Text
    text_spec: TextSpec | None
    """None without a text encoder."""

    image_spec: ImageSpec | None
    """None without a photo encoder."""

    catalog_path: Text
    columns: Annotated[CatalogColumns, Requires("sample_id", "text", "image", "price")]
    images_dir: Text | None
    text_weights: Text
    image_weights: Text
    """Path, "random", or "none" without an encoder."""


class EmbedManifest(Manifest):
    """embed/manifest.json."""

    STAGE: ClassVar[str] = "embed"

    stage: Literal["embed"]
    config: Annotated[EmbedConfig, Requires("chunk_size", "text_decimal_sign")]
    inputs: EmbedInputs
    n_products: CountFromOne
    attribute_names: list[Text]
    table: list[TableColumn] = Field(default_factory=list)
    substituted: Substituted
    stand_ins: list[StandIn] = Field(default_factory=list)
    files: dict[FileName, FileRecord]
    environment: dict[Text, Text] = Field(default_factory=dict)
    device: Text = ""
    backends: dict[Text, Text | None] = Field(default_factory=dict)
    seconds: Real

    @property
    def text_dim(self) -> int:
        """Width of the frozen text features, 0 without a text encoder."""
        return self.inputs.text_spec.dim if self.inputs.text_spec else 0

    @property
    def image_dim(self) -> int:
        """Width of the frozen photo features, 0 without a photo encoder."""
        return self.inputs.image_spec.dim if self.inputs.image_spec else 0

    @property
    def category_sizes(self) -> list[int]:
        """Number of codes of each category column, in order."""
        return [column.n_codes for column in self.table if column.kind == "category"]


class EmbedProgress(Record):
    """embed/progress.json."""

    key: Text
    rows: Count
    problem_bytes: Count
    backends: dict[Text, Text | None]
    seconds: Real

    def require_within(self, n_products: int, path: Path) -> None:
        """Refuse progress beyond the end of the catalog.

        Raises
        ------
        CacheError
            If more products are done than there are.
        """
        if self.rows > n_products:
            raise CacheError(
                f"{path}: rows must be a whole number, 0 to {n_products}, found "
                f"{self.rows}. Delete the file and run the stage again."
            )


def require_embedded(run_dir: Path) -> EmbedManifest:
    """Return the manifest of a finished embedding stage.

    Raises
    ------
    CacheError
        If the stage has not finished, or an earlier version cleaned the texts
        differently.
    """
    manifest = require_stage(run_dir, EmbedManifest)
    if manifest.inputs.text_format != TEXT_FORMAT:
        raise CacheError(
            f"{run_dir / 'embed'}: another version of pricestack read this run's "
            f"texts, in another way (text format {manifest.inputs.text_format}, now "
            f"{TEXT_FORMAT}). Run all stages again, beginning with "
            f"`{make_command(run_dir, 'embed')}` and the same catalog."
        )
    return manifest
