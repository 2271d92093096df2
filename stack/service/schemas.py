"""What the service takes and gives: the fields of requests and answers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from embed.text import MAX_TEXT_CHARS

MAX_PRODUCTS = 256
"""Of one request to /prices."""

MAX_ID_CHARS = 200

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
    str | None, Field(max_length=MAX_ID_CHARS, description="Comes back as it was sent.")
]


class ProductRequest(BaseModel):
    """A product to price."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Text
    image: Annotated[
        str | None,
        Field(
            description="Photo as base64 (JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF), at "
            "most 12 MB. One that cannot be read is an error; none is fine.",
            json_schema_extra={"contentEncoding": "base64"},
        ),
    ] = None
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
    sample_id: Annotated[
        SampleId, WithJsonSchema({"type": "string", "maxLength": MAX_ID_CHARS})
    ] = None


class BatchRequest(BaseModel):
    """Some products to price; the answers are in the same order."""

    model_config = ConfigDict(extra="forbid", strict=True)

    products: Annotated[
        list[ProductRequest], Field(min_length=1, max_length=MAX_PRODUCTS)
    ]


class Interval(BaseModel):
    """Between which prices that of `level` percent of new products lies."""

    level: int
    price_low: float
    price_high: float


class Placeholder(BaseModel):
    """What a product lacked, and was priced without."""

    field: Literal["text", "image"]
    reason: str


class Part(BaseModel):
    """A step of the price: all factors multiply to 1 + price / price_unit."""

    name: str
    log_price: float
    factor: float


class Word(BaseModel):
    """By how much the price changes if these words are left out."""

    text: str
    change_percent: float


class Attribute(BaseModel):
    """By how much the price changes if this value is left out."""

    name: str
    value: str
    change_percent: float


class Similar(BaseModel):
    """A product of the run that is near to the one asked for."""

    sample_id: str
    text: str
    price: float
    similarity: float


class Explanation(BaseModel):
    """What moved a price, and which products are like this one."""

    price_unit: Annotated[
        float, Field(gt=0, description="What log prices count as 1, catalog currency.")
    ]
    parts: list[Part]
    words: list[Word]
    attributes: list[Attribute]
    without_photo_percent: Annotated[
        float | None, Field(description="By how much the price changes without it.")
    ]
    similar: list[Similar]


class PriceAnswer(BaseModel):
    """A price, how far it may be off, and what it was made without."""

    sample_id: str | None = None
    price: Annotated[float, Field(gt=0, description="Catalog currency.")]
    intervals: list[Interval]
    predictor: Literal["network", "stacker"]
    placeholders: list[Placeholder]
    flags: Annotated[list[str], Field(description="Reasons to doubt the price.")]
    explanation: Explanation | None = None


class PricesAnswer(BaseModel):
    """Prices of some products, in the order of the request."""

    prices: list[PriceAnswer]


class Health(BaseModel):
    """Whether prices are given, and by which run."""

    status: Literal["loading", "ready"]
    run: Annotated[str | None, Field(description="Key of the run's stacking stage.")]
    chosen: Literal["network", "stacker"] | None
    currency: str | None


class ErrorDetail(BaseModel):
    """Where the trouble was, what it was, and what to do."""

    where: str
    message: str
    what_to_do: str


class ErrorAnswer(BaseModel):
    """What every status from 400 on comes with."""

    error: ErrorDetail
