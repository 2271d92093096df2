"""Types of the fields of records and settings: a type, its range and its rule in words.

The rules are checked by pydantic, which this module does without: an exported model
reads catalogs and need not have it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any

_Schema = dict[str, Any]  # pydantic's, which has no type for all of them


@dataclass(frozen=True)
class Rule:
    """Restrict a string, number or flag to its own type and to some values."""

    rule: str = ""
    """What the value must be; a whole sentence if it names the setting itself."""

    holds: Callable[[Any], bool] = lambda value: True

    def __get_pydantic_core_schema__(
        self, source: object, handler: Callable[[object], _Schema]
    ) -> _Schema:
        """Return the check as a schema of pydantic."""
        # Not pydantic's own check of a string: paths may have lone surrogates.
        schema: _Schema = {"type": "is-instance", "cls": str}
        if source is not str:
            schema = {**handler(source), "strict": True}
        if source is float:
            schema["allow_inf_nan"] = False
        function = {"type": "no-info", "function": self._check}
        return {"type": "function-wrap", "function": function, "schema": schema}

    def _check(self, value: object, check_type: Callable[[object], object]) -> object:
        """Return the value as it is: a whole number in place of a float stays whole."""
        from pydantic_core import PydanticCustomError

        if not self.holds(check_type(value)):
            raise PydanticCustomError("rule", "{rule}", {"rule": self.rule})
        return value


class DescribedBy:
    """Describe all faults of a field by one sentence."""

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence

    def __get_pydantic_core_schema__(
        self, source: object, handler: Callable[[object], _Schema]
    ) -> _Schema:
        """Return the check as a schema of pydantic."""
        return {
            "type": "custom-error",
            "schema": handler(source),
            "custom_error_type": "rule",
            "custom_error_message": "{rule}",
            "custom_error_context": {"rule": self.sentence},
        }


class Requires:
    """Require some keys of an object; its other keys may be missing."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __get_pydantic_core_schema__(
        self, source: object, handler: Callable[[object], _Schema]
    ) -> _Schema:
        """Return the check as a schema of pydantic."""
        function = {"type": "no-info", "function": self._check}
        schema = handler(source)
        return {"type": "function-before", "function": function, "schema": schema}

    def _check(self, value: object) -> object:
        from pydantic_core import PydanticCustomError

        for name in self.names:
            if isinstance(value, dict) and name not in value:
                raise PydanticCustomError("lacks", "{name}", {"name": name})
        return value


def whole(low: int, high: int = 2**53, rule: str = "") -> Rule:
    """Return the rule of a whole number in a range, both ends included."""
    rule = rule or f"a whole number, {low} to {high}"
    return Rule(rule, lambda value: low <= value <= high)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts
    return bool(name) and "\0" not in name and inside


Text = Annotated[str, Rule()]
Flag = Annotated[bool, Rule()]
Real = Annotated[float, Rule()]
"""A finite number."""

Positive = Annotated[float, Rule("a finite number above 0", lambda value: value > 0)]
Whole = Annotated[int, whole(-(2**53))]
Count = Annotated[int, whole(0)]
CountFromOne = Annotated[int, whole(1)]
Crc32 = Annotated[int, whole(0, 2**32 - 1)]
FileName = Annotated[
    str, Rule("the name of a file inside the stage's folder", _is_inside)
]
