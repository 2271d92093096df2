"""Keep a copy of the catalog in the run folder, as the embedding stage read it.

Later stages read this copy instead of the user's file, so a run folder works after it
is moved or the original is gone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embed.catalog.reader import Catalog
from embed.errors import CacheError
from embed.store.checksums import verify_files
from embed.store.durable import whole_file
from embed.store.manifest import remedy

if TYPE_CHECKING:
    from embed.records import EmbedManifest

CATALOG_NAME = "catalog.parquet"
_TABLE, _GROUP = "table.", "group."  # before the names of columns
_TEXTS = ("sample_id", "text", "image_link")


def write_run_catalog(
    catalog: Catalog,
    stage_dir: Path,
    *,
    best_prices: Mapping[str, float] | None = None,
) -> None:
    """Write the columns that were read from a catalog, whole or not at all.

    Parameters
    ----------
    catalog : Catalog
    stage_dir : Path
        Folder of the embedding stage. An equal file in it is left as it is.
    best_prices : mapping of str to float, optional
        Best predictable price by sample_id, if the catalog's law of price is known.
    """
    import pyarrow as pa  # type: ignore[import-untyped]  # late: it takes a second
    from pyarrow import parquet

    columns: dict[str, object] = {
        "sample_id": pa.array(catalog.sample_id.tolist(), pa.large_string()),
        "text": pa.array(catalog.text, pa.large_string()),
        "image_link": pa.array(catalog.image_link, pa.large_string()),
    }
    for name, cells in catalog.table.items():
        columns[_TABLE + name] = pa.array(cells, pa.large_string())
    for name, cells in catalog.groups.items():
        columns[_GROUP + name] = pa.array(cells, pa.large_string())
    if catalog.time is not None:
        columns["time"] = pa.array(catalog.time, pa.large_string())
    if catalog.price_text is not None:
        columns["price"] = pa.array(catalog.price_text, pa.large_string())
    if catalog.file_rows is not None:
        columns["file_row"] = pa.array(catalog.file_rows, pa.int64())
    if best_prices is not None:
        law_prices = [best_prices.get(str(name)) for name in catalog.sample_id]
        columns["law_price"] = pa.array(law_prices, pa.float64())
    table = pa.table(columns)
    path = stage_dir / CATALOG_NAME
    if path.is_file():
        try:
            if parquet.read_table(path).equals(table):
                return
        except (OSError, pa.ArrowException):
            pass  # a damaged file is written again
    with whole_file(path) as file:
        parquet.write_table(table, file, compression="zstd")


def read_run_catalog(run_dir: Path, embed: "EmbedManifest") -> Catalog:
    """Read the catalog of a run.

    Parameters
    ----------
    run_dir : Path
    embed : EmbedManifest
        Manifest of the run's embedding stage.

    Returns
    -------
    Catalog
        The run's catalog; its `path` is that of the user's file, for messages.

    Raises
    ------
    CacheError
        If the copy is missing, damaged, or differs from what the stage read.
    """
    verify_files(run_dir / "embed", embed.files, [CATALOG_NAME])
    cells = _read(run_dir / "embed")
    n_products = len(cells["sample_id"])
    catalog = Catalog(
        path=Path(embed.inputs.catalog_path),
        columns=embed.inputs.columns,
        sample_id=np.array(cells["sample_id"], dtype=np.str_).reshape(n_products),
        text=tuple(cells["text"]),
        image_link=tuple(cells["image_link"]),
        price_text=tuple(cells["price"]) if "price" in cells else None,
        table=_named(cells, _TABLE),
        groups=_named(cells, _GROUP),
        time=tuple(cells["time"]) if "time" in cells else None,
        file_rows=tuple(cells["file_row"]) if "file_row" in cells else None,
    )
    if catalog.content_sha256 != embed.inputs.catalog_sha256:
        raise _damaged(run_dir / "embed", "its ids, texts, links or table have changed")
    return catalog


def read_best_prices(
    run_dir: Path, embed: "EmbedManifest"
) -> NDArray[np.float64] | None:
    """Read the best predictable prices, shape (n_products,), if the law is known.

    Only the bundled sample has a known law; other catalogs give None. NaN marks a
    product without a law price. The parameters are those of `read_run_catalog`.

    Raises
    ------
    CacheError
        If the run's catalog is missing or damaged.
    """
    verify_files(run_dir / "embed", embed.files, [CATALOG_NAME])
    prices = _read(run_dir / "embed").get("law_price")
    return None if prices is None else np.array(prices, dtype=np.float64)


def _named(cells: Mapping[str, list[Any]], prefix: str) -> dict[str, tuple[str, ...]]:
    return {
        name.removeprefix(prefix): tuple(column)
        for name, column in cells.items()
        if name.startswith(prefix)
    }


def _read(stage_dir: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    path = stage_dir / CATALOG_NAME
    if not path.is_file():
        raise _damaged(stage_dir, "the run's copy of its catalog is missing")
    try:
        columns: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise _damaged(stage_dir, f"not readable as Parquet ({reason})") from error
    if not set(_TEXTS) <= columns.keys() or any(
        not isinstance(cell, str) for name in _TEXTS for cell in columns[name]
    ):
        raise _damaged(stage_dir, "not the catalog that the stage wrote")
    return columns


def _damaged(stage_dir: Path, fault: str) -> CacheError:
    return CacheError(f"{stage_dir / CATALOG_NAME}: {fault}. {remedy(stage_dir)}")
