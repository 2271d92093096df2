"""Store boosters in LightGBM's text format, with checksums to resume a stopped run."""

import logging
import zlib
from collections.abc import Sequence
from pathlib import Path

import lightgbm as lgb

from embed.errors import CacheError
from embed.store.durable import write_bytes
from embed.store.manifest import remedy

logger = logging.getLogger(__name__)
_CHECKSUM_SUFFIX = ".crc32"


def average_boosters(boosters: Sequence[lgb.Booster]) -> lgb.Booster:
    """Merge boosters into one that predicts their mean.

    Parameters
    ----------
    boosters : sequence of lightgbm.Booster
        Boosters of the same columns. Their leaf values are changed in place.
    """
    if len(boosters) == 1:
        return boosters[0]
    for booster in boosters:
        for number, tree in enumerate(booster.dump_model()["tree_info"]):
            for leaf in range(tree["num_leaves"]):
                value = booster.get_leaf_output(number, leaf)
                booster.set_leaf_output(number, leaf, value / len(boosters))
    # The merged booster has the settings of the first; one without trees has none.
    first, *others = sorted(boosters, key=lambda booster: not booster.num_trees())
    merged = lgb.Booster(model_str=first.model_to_string())
    for booster in others:
        # LightGBM's C interface; the Python one merges only for further training.
        merge = lgb.basic._LIB.LGBM_BoosterMerge  # type: ignore[attr-defined]
        lgb.basic._safe_call(merge(merged._handle, booster._handle))
    return merged


def remove_boosters(folder: Path) -> None:
    """Delete the boosters of a folder."""
    for path in folder.glob("booster-*"):
        path.unlink()


def load_boosters(
    directory: Path, *, feature_names: Sequence[str]
) -> list[lgb.Booster]:
    """Read the boosters that `fit_out_of_fold` wrote, in the order of their folds.

    Parameters
    ----------
    directory : Path
        Folder of the boosters.
    feature_names : sequence of str
        Columns of the matrix that the boosters will price.

    Raises
    ------
    CacheError
        If there is no booster, or if one cannot be read or has other features.
    """
    n_boosters = len(list(directory.glob("booster-*.txt")))
    if not n_boosters:
        raise CacheError(f"{directory}: contains no booster-0.txt. {remedy(directory)}")
    paths = [directory / f"booster-{fold}.txt" for fold in range(n_boosters)]
    return [_load_booster(path, list(feature_names)) for path in paths]


def read_booster(path: Path) -> lgb.Booster:
    """Read a booster without checking its features.

    Raises
    ------
    CacheError
        If the file is missing or is not a booster.
    """
    try:
        return lgb.Booster(model_str=path.read_text(encoding="utf-8"))
    except (OSError, ValueError, lgb.basic.LightGBMError) as error:
        raise CacheError(
            f"{path}: is not a whole LightGBM model ({error}). {remedy(path)}"
        ) from error


def _load_booster(path: Path, feature_names: list[str]) -> lgb.Booster:
    booster = read_booster(path)
    names = booster.feature_name()
    if names != feature_names:
        pairs = zip(names, feature_names, strict=False)
        first = next((pair for pair in pairs if pair[0] != pair[1]), None)
        detail = f"; first difference: {first[0]!r}, {first[1]!r}" if first else ""
        raise CacheError(
            f"{path}: was fitted on {len(names)} features, the matrix has "
            f"{len(feature_names)}{detail}. {remedy(path)}"
        )
    return booster


def keep_booster(path: Path, booster: lgb.Booster) -> None:
    """Write a booster as text, after its checksum."""
    content = booster.model_to_string().encode()
    write_bytes(path.with_suffix(_CHECKSUM_SUFFIX), str(zlib.crc32(content)).encode())
    write_bytes(path, content)


def kept_booster(path: Path, feature_names: list[str]) -> lgb.Booster | None:
    """Return the booster that a stopped run wrote; None if it is missing or damaged."""
    checksum = path.with_suffix(_CHECKSUM_SUFFIX)
    if not path.is_file() or not checksum.is_file():
        return None
    if checksum.read_bytes() != str(zlib.crc32(path.read_bytes())).encode():
        logger.warning("%s: is not as it was written, so it is fitted again", path)
        return None
    return _load_booster(path, feature_names)
