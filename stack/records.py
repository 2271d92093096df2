"""Records that the stacking stage writes."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, RootModel

from embed.store.records import FileRecord, Manifest, Record
from embed.store.rules import (
    Count,
    CountFromOne,
    FileName,
    Flag,
    Real,
    Requires,
    Text,
    whole,
)
from stack.blocks.recall import SearchRecall
from stack.config import StackConfig

Chosen = Literal["network", "stacker"]
PredictorName = Literal["median", "lightgbm", "network", "blend", "stacker", "chosen"]
_SmapeByPredictor = Annotated[
    dict[Text, Real | None],
    Requires("median", "lightgbm", "network", "blend", "stacker", "chosen"),
]


class ConfidenceRecord(Record):
    """What a run knows of the errors of its prices, beside its arrays."""

    blocks: list[Text]
    """Blocks that the size of an error is predicted from."""

    has_boosters: Flag
    """Whether boosters predict the size; otherwise it is always `usual_size`."""

    usual_size: Real
    """Mean size of the errors of log prices, out of fold."""

    unknown_size: Real
    """Size of the error for a product of which nothing is known."""

    limits: dict[Text, Real]
    """Distance by column, beyond which a product is unlike the trained ones."""


class StackManifest(Manifest):
    """stack/manifest.json."""

    STAGE: ClassVar[str] = "stack"

    stage: Literal["stack"]
    finetune_key: Text
    config: StackConfig
    chosen: Chosen
    confidence: ConfidenceRecord

    rounds: dict[Text, list[Count]] = Field(default_factory=dict)
    """By predictor, the trees of each fold's booster."""

    tuned: list[dict[str, object]] = Field(default_factory=list)
    alignment: list[dict[str, object]] = Field(default_factory=list)
    recall: SearchRecall | None = None
    """Recall of the searches by an index; not given if all are exact."""

    files: dict[FileName, FileRecord]
    environment: dict[Text, Text] = Field(default_factory=dict)
    seconds: Real


class BlockFiles(RootModel[dict[FileName, FileRecord]]):
    """files.json of a block that is fitted on prices."""


class Part(Record):
    """SMAPE of each predictor on some products."""

    n: Count
    smape: _SmapeByPredictor


class Band(Record):
    """SMAPE of each predictor on a fifth of the true prices."""

    low: Real
    high: Real
    n: Count
    smape: _SmapeByPredictor


class ByPhoto(Record):
    """SMAPE of each predictor with and without a photo."""

    present: Part
    absent: Part


class IntervalRecord(Record):
    """A difference in SMAPE (points of 0 to 200) and its 95 % interval."""

    mean: Real
    low: Real
    high: Real

    def __str__(self) -> str:
        return f"{self.mean:+.2f} (95 % interval {self.low:+.2f} to {self.high:+.2f})"


class VerdictRecord(Record):
    """The predictor that serves, and the reason."""

    chosen: Chosen
    interval_network: IntervalRecord
    """SMAPE(stacker) - SMAPE(network)."""

    interval_blend: IntervalRecord
    """SMAPE(stacker) - SMAPE(blend control)."""

    sentence: Text


class PredictorScore(Record):
    """Scores of a predictor, out of fold."""

    name: PredictorName
    label: Text
    smape: Real
    smape_se: Real
    smape_half: Real
    smape_log1p: Real
    mae: Real
    median_ape: Real
    r2_log: Real | None


class CalibrationSlope(Record):
    """Slope of the log price on its prediction."""

    network: Real | None
    chosen: Real | None


class BestReachable(Record):
    """SMAPE by the law that a sample's prices were made from."""

    n: CountFromOne
    smape: dict[Text, Real]


class CoverageOfBand(Record):
    """Share of the prices of a band that an interval contains."""

    low: Real
    high: Real
    n: CountFromOne
    coverage: Real


class CoverageOfPart(Record):
    """Share of the prices of some products that an interval contains."""

    n: Count
    coverage: Real | None


class CoverageByPhoto(Record):
    """Coverage with and without a photo."""

    present: CoverageOfPart
    absent: CoverageOfPart


class Coverage(Record):
    """Share of the prices that the intervals of a level contain."""

    level: Annotated[int, whole(1, 99)]
    coverage: Real
    width_ratio: Real
    """Median of high over low end."""

    score: Real
    """Mean interval score in ln price."""

    score_constant: Real
    """The same for intervals that have one width in log price."""

    bands: list[CoverageOfBand]
    """By fifths of the true price, the cheapest first."""

    by_predicted: list[CoverageOfBand]
    """By fifths of the predicted price."""

    by_confidence: list[CoverageOfBand]
    """By fifths of the probability to be within 20 %, the least sure first."""

    by_photo: CoverageByPhoto


class Tenth(Record):
    """Probability and share of right prices in a tenth of the products."""

    n: CountFromOne
    predicted: Real
    found: Real


class Surest(Record):
    """Errors of a share of the products, those with the surest prices."""

    share: Real
    n: CountFromOne
    least: Real
    """Lowest probability in the share that the price is within 20 % of the true one."""

    median_ape: Real
    within_20: Real


class Sureness(Record):
    """How far probabilities came true, out of fold."""

    reliability: Annotated[dict[Text, list[Tenth]], Requires("10", "20")]
    """By percent of the true price: tenths of the probability, the lowest first."""

    curve: list[Surest]
    n_unlike: Count
    median_ape_unlike: Real | None


class AblationScore(Record):
    """SMAPE of the stacker without some blocks."""

    left_out: list[Text]
    smape: Real
    adds: Real | None
    """SMAPE without the blocks minus SMAPE with all; None with all blocks."""

    adds_se: Real | None
    """Standard error of `adds` over products, not over seeds."""


class Doubts(Record):
    """Reasons to doubt a run."""

    sentences: list[Text] = Field(default_factory=list)


class Bias(Record):
    """Mean of ln(predicted / true price) and its 95 % interval."""

    mean: Real
    low: Real | None
    high: Real | None
    """None, like `low`, where all products are of one group."""


class Estimate(Record):
    """A measure and its 95 % interval."""

    value: Real | None
    low: Real | None
    high: Real | None


class Ratios(Record):
    """Predicted over true prices of some products, see `stack.judge.ratios`."""

    n: CountFromOne
    median: Estimate
    cod: Estimate
    prd: Estimate
    prb: Estimate
    prb_predicted: Estimate


class RatiosOfBand(Ratios):
    """Ratios in a fifth of the price levels."""

    low: Real
    high: Real


class RatiosOfCategory(Ratios):
    """Ratios of the products of a category."""

    category: Text


class RatioStudy(Record):
    """Ratios of all products and of parts, out of fold."""

    all: Ratios
    bands: list[RatiosOfBand]
    categories: dict[Text, list[RatiosOfCategory]]


class HeldOutScore(Record):
    """Score of a predictor on the held-out products."""

    name: Text
    label: Text
    smape: Real
    smape_se: Real
    difference: IntervalRecord | None
    """SMAPE of the chosen predictor minus this one's; None for itself."""


class HeldOutPart(Record):
    """SMAPE of each predictor on some held-out products."""

    n: Count
    smape: dict[Text, Real | None]


class HeldOut(Record):
    """Scores on products that no stage was trained on."""

    n: CountFromOne
    test_from: Text | None
    """Date from which products are held out; None if they were drawn at random."""

    n_undated: Count
    predictors: list[HeldOutScore]
    known: HeldOutPart
    """Products that share a group, such as a text or photo, with trained ones."""

    new: HeldOutPart
    """The others."""

    bias: Bias

    coverage: dict[Text, Real]
    """Share of true prices inside the prediction intervals, by level."""

    confidence: Sureness


class Period(Record):
    """Scores of the products of one period, out of fold or held out."""

    period: Text
    n: CountFromOne
    n_held_out: Count
    smape: dict[Text, Real]
    bias: Bias


class Report(Record):
    """stack/report.json."""

    n_products: CountFromOne
    n_unpriced: Count
    n_folds: Annotated[int, whole(2)]
    predictors: list[PredictorScore]
    bands: list[Band]
    image: ByPhoto
    calibration_slope: CalibrationSlope
    verdict: VerdictRecord
    doubts: Doubts = Field(default_factory=Doubts)
    best: BestReachable | None
    intervals: list[Coverage] = Field(default_factory=list)
    confidence: Sureness | None = None
    ablation: list[AblationScore] = Field(default_factory=list)
    ratios: RatioStudy | None = None
    held_out: HeldOut | None = None
    periods: list[Period] = Field(default_factory=list)


class ShortScore(Record):
    """The part of a predictor's scores that a list of runs shows."""

    name: Text
    smape: Real
    smape_se: Real


class ShortReport(Record):
    """The part of stack/report.json that a list of runs reads."""

    predictors: list[ShortScore]
