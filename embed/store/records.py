"""Check the records of a run and the settings of its stages, by pydantic.

A run folder may come from elsewhere or have been edited, so each value that code relies
on is checked as it is read. Records may have further keys, as a later version may write
them; settings may not.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from embed.errors import CacheError, ConfigError
from embed.store.rules import Count, Crc32, Text

Config = TypeVar("Config")
SETTINGS = ConfigDict(extra="forbid")
"""How pydantic checks settings."""

_RULES = {
    "is_instance_of": "a string",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a finite number",
    "finite_number": "a finite number",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "dataclass_type": "an object",
}
"""Rules by the kind of pydantic's error."""


class Record(BaseModel):
    """A JSON object of a run folder, or a part of one."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    def as_json(self) -> dict[str, Any]:
        """Return the object as it is written: without fields that were not given."""
        return self.model_dump(exclude_unset=True)


class Manifest(Record):
    """The record that a stage writes last, in a file of `MANIFEST_NAME`."""

    STAGE: ClassVar[str]

    stage: Text
    key: Text


class FileRecord(Record):
    """A finished file in a manifest."""

    bytes: Count
    crc32: list[Crc32]
    """Checksum of each block of the file."""


AnyRecord = TypeVar("AnyRecord", bound=BaseModel)


def check_record(record: object, path: Path, kind: type[AnyRecord]) -> AnyRecord:
    """Turn a value read from JSON into a record.

    Parameters
    ----------
    record : object
    path : Path
        The file, for the message.
    kind : type
        Class of the record.

    Raises
    ------
    CacheError
        If the value does not fit; the message names file, field, rule and value.
    """
    try:
        return kind.model_validate(record)
    except ValidationError as error:
        fault = describe_fault(error, found="found")
    raise CacheError(f"{path}: {fault}. Delete the file and run the stage again.")


def describe_fault(error: ValidationError, *, found: str) -> str:
    """Describe the first fault that pydantic found: field, rule and value.

    Parameters
    ----------
    error : ValidationError
    found : str
        Word before the value: "found" in a record, "got" in settings, whose rules name
        the setting themselves.
    """
    fault = error.errors(include_url=False)[0]
    kind, context = fault["type"], fault.get("ctx", {})
    place = list(fault["loc"])
    if place[-1:] == ["[key]"]:
        del place[-1]
    if kind == "lacks":
        place.append(context["name"])
    where = "".join(map(_step, place)).lstrip(".")
    if kind in ("missing", "lacks"):
        return f"{where} is missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where} is not a setting"
    if kind == "value_error":
        return f"{where}: {context['error']}".removeprefix(": ")
    value = repr(fault["input"])
    shown = f"{found} {value[:60]}{'…' * (len(value) > 60)}"
    rule = context.get("rule") or _RULES.get(kind) or _other_rule(kind, context)
    if " must " in rule:
        return f"{where}: {rule}, {shown}" if found == "found" else f"{rule}, {shown}"
    return f"{where} must be {rule}, {shown}".lstrip()


def _other_rule(kind: str, context: dict[str, Any]) -> str:
    if kind == "literal_error":
        expected: str = context["expected"]
        return "one of " + expected.replace("'", "").replace(" or ", ", ")
    assert kind == "too_long", kind
    return f"a list of {context['max_length']}"


def _step(part: int | str) -> str:
    if isinstance(part, str) and part.replace("_", "a").replace("-", "a").isalnum():
        return f".{part}"
    return f"[{part!r}]"


def config_errors(cls: type[Config]) -> type[Config]:
    """Make a dataclass of pydantic raise ConfigErrors that name the broken rule."""
    init: Callable[..., None] = cls.__init__

    @functools.wraps(init)
    def checked(self: object, **values: object) -> None:
        try:
            init(self, **values)
        except ValidationError as error:
            raise ConfigError(describe_fault(error, found="got")) from None

    cls.__init__ = checked  # type: ignore[method-assign]
    return cls
