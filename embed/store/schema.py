"""Check the JSON files of a run before any other code relies on them.

A run folder may come from elsewhere or have been edited, so the presence, type and
range of every value that code relies on is checked. Further keys are allowed; a later
version may write them.
"""

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from embed.errors import CacheError, ConfigError

Kind = Callable[[object], str | None]
"""Check of one value: None if it fits, else the fault, to follow the field's name."""

Config = TypeVar("Config")


def check_record(record: object, path: Path, schema: Kind) -> None:
    """Refuse a file's record that does not fit its schema.

    Parameters
    ----------
    record : object
        Value read from JSON.
    path : Path
        The file, for the message.
    schema : Kind
        A schema of this module.

    Raises
    ------
    CacheError
        If the record does not fit; the message names file, field, rule and value.
    """
    fault = schema(record)
    if fault is not None:
        raise CacheError(
            f"{path}: {fault.lstrip('.').lstrip()}. Delete the file and run the stage "
            f"again."
        )


def config_from(
    record: object, cls: type[Config], path: Path, *, place: str = "config"
) -> Config:
    """Build a configuration from its record in a manifest.

    Parameters
    ----------
    record : object
        Value read from JSON.
    cls : type
        Frozen dataclass, whose annotations give the type of each field.
    path : Path
        The manifest, for the message.
    place : str
        Key of the record in the manifest, for the message.

    Returns
    -------
    cls
        Configuration; fields that the record lacks have their defaults.

    Raises
    ------
    CacheError
        If a field is unknown, of another type, or refused by the class itself.
    """
    assert dataclasses.is_dataclass(cls)
    hints = typing.get_type_hints(cls)
    known = {
        field.name: _kind_of(hints[field.name]) for field in dataclasses.fields(cls)
    }
    values = record if isinstance(record, dict) else {}
    unknown = sorted(map(str, values.keys() - known.keys()))
    schema = fields(**{name: kind for name, kind in known.items() if name in values})
    fault = f".{unknown[0]} is not a setting" if unknown else schema(record)
    if fault is None:
        settings = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        try:
            return cls(**settings)
        except ConfigError as error:
            fault = f": {error}"
    raise CacheError(
        f"{path}: {place}{fault}. The file was written by another version or changed "
        f"by hand; delete the file and run the stage again."
    )


def text(value: object) -> str | None:
    """Accept a string."""
    return None if isinstance(value, str) else _must_be("a string", value)


def flag(value: object) -> str | None:
    """Accept true or false."""
    return None if isinstance(value, bool) else _must_be("true or false", value)


def real(value: object) -> str | None:
    """Accept a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Not isfinite: it fails on a whole number too large for a float.
    if is_number and abs(typing.cast(float, value)) <= sys.float_info.max:
        return None
    return _must_be("a finite number", value)


def positive(value: object) -> str | None:
    """Accept a finite number above 0."""
    if real(value) is None and typing.cast(float, value) > 0:
        return None
    return _must_be("a finite number above 0", value)


def file_name(value: object) -> str | None:
    """Accept the name of a file inside the stage's folder."""
    if isinstance(value, str) and value and "\0" not in value:
        path = PurePosixPath(value)
        if not path.is_absolute() and ".." not in path.parts:
            return None
    return _must_be("the name of a file inside the stage's folder", value)


def whole(low: int, high: int = 2**53) -> Kind:
    """Return a check for a whole number in a range, both ends included."""

    def check(value: object) -> str | None:
        fits = type(value) is int and low <= value <= high
        return None if fits else _must_be(f"a whole number, {low} to {high}", value)

    return check


def one_of(*choices: object) -> Kind:
    """Return a check for one of the given choices."""

    def check(value: object) -> str | None:
        fits = any(type(value) is type(c) and value == c for c in choices)
        return (
            None if fits else _must_be(f"one of {', '.join(map(str, choices))}", value)
        )

    return check


def optional(kind: Kind) -> Kind:
    """Return a check that also accepts null."""
    return lambda value: None if value is None else kind(value)


def many(kind: Kind) -> Kind:
    """Return a check for a list whose items all fit `kind`."""

    def check(value: object) -> str | None:
        if not isinstance(value, list):
            return _must_be("a list", value)
        items = enumerate(value)
        return _first_fault((f"[{index}]", kind, item) for index, item in items)

    return check


def pair(kind: Kind) -> Kind:
    """Return a check for a list of two items that fit `kind`."""

    def check(value: object) -> str | None:
        if isinstance(value, list) and len(value) == 2:
            return many(kind)(value)
        return _must_be("a list of two", value)

    return check


def named(kind: Kind, *, names: Kind = text) -> Kind:
    """Return a check for an object of any keys whose values all fit."""

    def check(value: object) -> str | None:
        if not isinstance(value, dict):
            return _must_be("an object", value)
        return _first_fault(
            (f"[{name!r}]", check_part, part)
            for name, item in value.items()
            for check_part, part in ((names, name), (kind, item))
        )

    return check


def fields(**kinds: Kind) -> Kind:
    """Return a check for an object that has all these keys, with values that fit."""

    def check(value: object) -> str | None:
        if not isinstance(value, dict):
            return _must_be("an object", value)
        missing = [name for name in kinds if name not in value]
        if missing:
            return f".{missing[0]} is missing"
        return _first_fault(
            (f".{name}", kind, value[name]) for name, kind in kinds.items()
        )

    return check


def also(schema: Kind, **kinds: Kind) -> Kind:
    """Return a check for an object that fits `schema`, with optional further keys.

    Records of older versions lack the further keys.
    """

    def check(value: object) -> str | None:
        fault = schema(value)
        if fault is None:
            record = typing.cast(dict[str, object], value)
            fault = fields(**{n: kinds[n] for n in kinds.keys() & record.keys()})(value)
        return fault

    return check


def _first_fault(
    parts: Iterable[tuple[str, Kind, object]],
) -> str | None:
    faults = ((where, kind(value)) for where, kind, value in parts)
    return next((where + fault for where, fault in faults if fault is not None), None)


def _must_be(rule: str, value: object) -> str:
    shown = repr(value)
    return f" must be {rule}, found {shown[:60]}{'…' * (len(shown) > 60)}"


def _kind_of(annotation: Any) -> Kind:  # Python has no type for annotations
    """Return the check for a field's annotation."""
    plain: Mapping[object, Kind] = {
        str: text,
        bool: flag,
        float: real,
        int: whole(-(2**53)),
    }
    if annotation in plain:
        return plain[annotation]
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return one_of(*parts)
    if origin is tuple:
        return many(_kind_of(parts[0]))
    assert origin in (types.UnionType, typing.Union)  # Union comes from Literal | None
    assert parts[1] is types.NoneType
    return optional(_kind_of(parts[0]))


_FILES = named(fields(bytes=whole(0), crc32=many(whole(0, 2**32 - 1))), names=file_name)
_COUNT = whole(0)

EMBED = also(
    fields(
        stage=one_of("embed"),
        key=text,
        config=fields(
            chunk_size=whole(1), text_decimal_sign=one_of("auto", ".", ",", "unknown")
        ),
        inputs=fields(
            catalog_path=text,
            catalog_sha256=text,
            columns=fields(sample_id=text, text=many(text), image=text, price=text),
            images_dir=optional(text),
            text_weights=text,
            text_weights_sha256=text,
            image_weights=text,
            image_weights_sha256=text,
        ),
        n_products=whole(1),
        attribute_names=many(text),
        substituted=fields(text=_COUNT, image=_COUNT),
        files=_FILES,
        seconds=real,
    ),
    stand_ins=many(fields(sha256=text, n_products=_COUNT, sample_id=text)),
)
"""Schema of embed/manifest.json; `config_from` checks its `config`."""

PROGRESS = fields(
    key=text,
    rows=_COUNT,
    problem_bytes=_COUNT,
    backends=named(optional(text)),
    seconds=real,
)
"""Schema of embed/progress.json."""

FOLD = fields(
    fold=whole(0, 126),
    key=text,
    n_train=_COUNT,
    n_held_out=_COUNT,
    held_out_smape=real,
    models_sha256=many(text),
    seed_smape=many(real),
    checksums=named(whole(0, 2**32 - 1), names=file_name),
    seconds=named(real),
)
"""Schema of finetune/fold-k/manifest.json."""

NETWORK = fields(key=text, model_sha256=text, seconds=real)
"""Schema of network.json beside the weights of each network."""

FINETUNE = also(
    fields(
        stage=one_of("finetune"),
        key=text,
        embed_key=text,
        config=fields(n_folds=whole(2, 127)),
        n_products=whole(1),
        n_unpriced_dropped=_COUNT,
        smape=real,
        folds=many(FOLD),
        files=_FILES,
        seconds=real,
    ),
    price_unit=positive,
)
"""Schema of finetune/manifest.json; `config_from` checks its `config`."""

PLAN = fields(key=text)
"""Schema of finetune/plan.json and stack/plan.json."""

STACK = fields(
    stage=one_of("stack"),
    key=text,
    finetune_key=text,
    config=fields(),
    chosen=one_of("network", "stacker"),
    intervals=fields(**{"80": pair(real), "90": pair(real)}),
    files=_FILES,
    seconds=real,
)
"""Schema of stack/manifest.json; `config_from` checks its `config`."""

STAGES: Mapping[str, Kind] = {"embed": EMBED, "finetune": FINETUNE, "stack": STACK}


def progress_of(n_products: int) -> Kind:
    """Return the check of embed/progress.json for a catalog of `n_products`."""

    def check(value: object) -> str | None:
        fault = PROGRESS(value)
        if fault is None:
            rows = typing.cast(dict[str, object], value)["rows"]
            fault = whole(0, n_products)(rows)
            return None if fault is None else f".rows{fault}"
        return fault

    return check
