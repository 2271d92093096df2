"""Define the fields of the service's requests and answers."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from embed.catalog.columns import TableKind
from embed.table.values import Value
from embed.text import MAX_TEXT_CHARS

MAX_PRODUCTS = 256
"""Largest number of products in one request to /prices."""

MAX_ID_CHARS = 200
"""Longest sample_id."""

MAX_VALUE_CHARS = 1000
"""Longest value of a table column."""

MAX_CATEGORIES = 200
"""Largest number of categories of a column in /health."""

Text = Annotated[
    str,
    Field(
        max_length=MAX_TEXT_CHARS,
        description="As in a catalog: free text (first line: the name), or the labels "
        "`Item Name:`, `Bullet Point 1:`, `Product Description:`, `Value:`, `Unit:`. "
        "May be empty.",
        examples=["Item Name: Green Taco Sauce\nValue: 72\nUnit: Fl Oz"],
    ),
]
SampleId = Annotated[
    str | None, Field(max_length=MAX_ID_CHARS, description="Returned unchanged.")
]


def _check_value(value: object) -> object:
    if not isinstance(value, Value):
        raise PydanticCustomError(
            "value_type", "Value should be a text, a number, true, false or null"
        )
    if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
        raise PydanticCustomError(
            "string_too_long",
            "String should have at most {most} characters",
            {"most": MAX_VALUE_CHARS},
        )
    return value


_TableValue = Annotated[
    Value,
    PlainValidator(_check_value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": MAX_VALUE_CHARS},
                *({"type": kind} for kind in ("number", "boolean", "null")),
            ]
        }
    ),
]
Table = dict[str, _TableValue]
_TABLE = Field(
    description="Values by table column of the run, which /health lists. Texts are "
    "read as in the catalog; a date may also be written as 2024-03-31. Columns that "
    "are left out are unknown."
)


class ProductRequest(BaseModel):
    """A product to price."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Text
    image: Annotated[
        str | None,
        Field(
            description="Photo as base64 (JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF), at "
            "most 12 MB. An unreadable photo is an error; no photo is fine.",
            json_schema_extra={"contentEncoding": "base64"},
        ),
    ] = None
    table: Annotated[Table, _TABLE] = {}
    sample_id: SampleId = None


class ProductForm(BaseModel):
    """A product to price, as a form: the photo as a file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Text
    photo: Annotated[
        bytes | None,
        Field(description="File of a photo, as for `image`."),
        WithJsonSchema({"type": "string", "format": "binary"}),
    ] = None
    table: Annotated[Json[Table], _TABLE] = {}
    sample_id: Annotated[
        SampleId, WithJsonSchema({"type": "string", "maxLength": MAX_ID_CHARS})
    ] = None


class BatchRequest(BaseModel):
    """Some products to price, each checked by itself; answers are in the same order."""

    model_config = ConfigDict(extra="forbid", strict=True)

    products: Annotated[
        list[ProductRequest | Any], Field(min_length=1, max_length=MAX_PRODUCTS)
    ]


class Interval(BaseModel):
    """A prediction interval: it contains the price of `level` % of new products."""

    level: int
    price_low: float
    price_high: float


class Placeholder(BaseModel):
    """An input that the product was priced without, and the reason."""

    field: Literal["text", "image", "table"]
    reason: str


class Part(BaseModel):
    """A step of the price: all factors multiply to 1 + price / price_unit."""

    name: str
    log_price: float
    factor: float


class Word(BaseModel):
    """Change of the price if these words are left out."""

    text: str
    change_percent: float


class Attribute(BaseModel):
    """Change of the price if this value is left out."""

    name: str
    value: str
    change_percent: float


class Similar(BaseModel):
    """A product of the run that is similar to the requested one."""

    sample_id: str
    text: str
    price: float
    similarity: float


class Explanation(BaseModel):
    """Parts of a price, effects of its inputs, and similar products."""

    price_unit: Annotated[
        float, Field(gt=0, description="Unit of log prices, catalog currency.")
    ]
    parts: list[Part]
    words: list[Word]
    attributes: Annotated[list[Attribute], Field(description="Sizes in the text.")]
    table: Annotated[list[Attribute], Field(description="Known table columns.")]
    without_photo_percent: Annotated[
        float | None, Field(description="Change of the price without the photo.")
    ]
    similar: list[Similar]


class PriceAnswer(BaseModel):
    """A price, its prediction intervals and its missing inputs."""

    sample_id: str | None = None
    price: Annotated[float, Field(gt=0, description="Catalog currency.")]
    intervals: list[Interval]
    within_10: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Probability that the price is within 10 % of the true one.",
        ),
    ]
    within_20: Annotated[float, Field(ge=0, le=1, description="The same for 20 %.")]
    unlike: Annotated[
        bool,
        Field(description="Whether the product is unlike all trained products."),
    ]
    predictor: Literal["network", "stacker"]
    placeholders: list[Placeholder]
    flags: Annotated[list[str], Field(description="Reasons to doubt the price.")]
    explanation: Explanation | None = None


class ErrorDetail(BaseModel):
    """Place, problem and remedy of an error."""

    where: str
    message: str
    what_to_do: str


class FailedProduct(BaseModel):
    """A product of a batch that has no price, and why."""

    sample_id: str | None = None
    error: ErrorDetail


class PricesAnswer(BaseModel):
    """Prices of some products, in the order of the request."""

    prices: list[PriceAnswer | FailedProduct]


class KnownColumn(BaseModel):
    """A table column of the run, and what is known of its values."""

    name: str
    kind: TableKind
    units: Annotated[
        list[str], Field(description='Units of numbers; "" for none.')
    ] = []
    date_format: Annotated[
        str | None, Field(description="As of strptime, or ISO8601.")
    ] = None
    categories: Annotated[
        list[str], Field(description=f"The first {MAX_CATEGORIES}, in lower case.")
    ] = []
    n_categories: int = 0


class State(BaseModel):
    """Whether the service runs, for probes."""

    status: Literal["live", "loading", "ready"]


class Health(BaseModel):
    """Status of the service, and the run that it uses."""

    status: Literal["loading", "ready"]
    run: Annotated[str | None, Field(description="Key of the run's stacking stage.")]
    chosen: Literal["network", "stacker"] | None
    smape: Annotated[
        float | None, Field(description="Out-of-fold SMAPE of the run, 0 to 200.")
    ]
    version: Annotated[str, Field(description="Version of pricestack.")]
    currency: str | None
    table: Annotated[list[KnownColumn], Field(description="Table columns of the run.")]


class ErrorAnswer(BaseModel):
    """Body of every answer with a status from 400 on."""

    error: ErrorDetail
