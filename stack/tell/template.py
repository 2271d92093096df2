"""Templates of reports, with the filters that write numbers."""

from pathlib import Path
from typing import TYPE_CHECKING

from stack.tell.numbers import FILTERS

if TYPE_CHECKING:
    from jinja2 import Template


def load_template(path: Path) -> "Template":
    """Load a template; rendering it raises if a name in it has no value.

    Parameters
    ----------
    path : Path
        Values are escaped for HTML if it ends in `.html.j2`.
    """
    from jinja2 import (
        Environment,
        FileSystemLoader,
        StrictUndefined,
        select_autoescape,
    )

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS)
    return environment.get_template(path.name)
