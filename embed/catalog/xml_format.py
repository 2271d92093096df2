"""Read the cells of a product feed in XML: RSS 2.0 or Atom for Google Merchant Center.

The standard library's expat reads the feed as a stream. A document type is refused
before its entities are declared, so no entity is expanded and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.parsers import expat

from embed.catalog.columns import CatalogColumns, CatalogError, Cells, one_line
from embed.catalog.encodings import open_bytes
from embed.catalog.export_cells import standard_cells
from embed.catalog.exports import Plan, plan_columns

MAX_CELL_CHARS = 1 << 25
MAX_DEPTH = 100
_CHUNK_BYTES = 1 << 16
_PRODUCT = {"item", "entry"}
_GOOGLE = "http://base.google.com/ns/1.0"
_NAMES_OF_FEEDS = {"", _GOOGLE, "http://www.w3.org/2005/Atom"}

Product = dict[str, str]


def read_xml(path: Path, columns: CatalogColumns) -> Cells:
    """Read the needed columns of a feed, one product per `<item>` or `<entry>`.

    Raises
    ------
    CatalogError
        If the feed is not well-formed, has a document type, or has no product; the
        message names the place.
    OSError
        If the file cannot be read at all.
    """
    # Two passes: the set of columns is known only at the end of the first.
    present: dict[str, None] = {}
    n_products = _each_product(
        path, lambda product: present.update(dict.fromkeys(product))
    )
    if not n_products:
        raise CatalogError(
            f"{path}: has no <item> or <entry>, so it is no feed of products. Give an "
            "RSS or Atom feed, or a CSV file"
        )
    plan: Plan = plan_columns(path, columns, list(present))
    texts: dict[str, list[str]] = {name: [] for name in plan.needed}

    def keep(product: Product) -> None:
        for name, column in texts.items():
            column.append(product.get(name, ""))

    _each_product(path, keep)
    return standard_cells(path, Cells(of=texts, columns=columns), plan)


class _Feed:
    """Handlers of expat that gather the fields of one product at a time."""

    def __init__(self, path: Path, keep: Callable[[Product], None]) -> None:
        self.n_products = 0
        self._path, self._keep = path, keep
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._depth = 0
        self._product: Product | None = None
        self._of_google: set[str] = set()
        self._product_depth = 0
        self._field: str | None = None
        self._parts: list[str] = []
        self._n_chars = 0

    def feed(self, chunk: bytes, *, final: bool) -> None:
        self._parser.Parse(chunk, final)

    def _refuse_doctype(self, *_: object) -> None:
        raise CatalogError(
            f"{self._path}: line {self._parser.CurrentLineNumber}: must have no "
            "document type, which may declare entities. Remove <!DOCTYPE …>"
        )

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise CatalogError(
                f"{self._path}: line {self._parser.CurrentLineNumber}: elements must "
                f"be at most {MAX_DEPTH} deep. Give a feed of products"
            )
        space, _, local = name.rpartition(" ")
        if self._product is None and local in _PRODUCT:
            self._product, self._product_depth = {}, self._depth
        elif self._product is not None and self._depth == self._product_depth + 1:
            self._field = local if space in _NAMES_OF_FEEDS else None
            self._parts, self._n_chars = [], 0

    def _text(self, text: str) -> None:
        if self._field is None:
            return
        self._n_chars += len(text)
        if self._n_chars > MAX_CELL_CHARS:
            raise CatalogError(
                f"{self._path}: line {self._parser.CurrentLineNumber}: a field must "
                f"have at most {MAX_CELL_CHARS} characters. Shorten its text"
            )
        self._parts.append(text)

    def _end(self, name: str) -> None:
        space = name.rpartition(" ")[0]
        if self._product is not None:
            if self._depth == self._product_depth + 1 and self._field is not None:
                text = "".join(self._parts).strip()
                # Google's own field overrides the feed's; the first of several counts.
                if space == _GOOGLE and self._field not in self._of_google:
                    self._product[self._field] = text
                    self._of_google.add(self._field)
                else:
                    self._product.setdefault(self._field, text)
                self._field = None
            elif self._depth == self._product_depth:
                self._keep(self._product)
                self.n_products += 1
                self._product = None
                self._of_google = set()
        self._depth -= 1


def _each_product(path: Path, keep: Callable[[Product], None]) -> int:
    """Call `keep` with the fields of each product; return the number of products."""
    feed = _Feed(path, keep)
    try:
        with open_bytes(path) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                feed.feed(chunk, final=False)
            feed.feed(b"", final=True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(
            f"{path}: not well-formed XML ({one_line(error)}). Write signs such as & "
            "as &amp;, and check that the file is whole"
        ) from error
    return feed.n_products
