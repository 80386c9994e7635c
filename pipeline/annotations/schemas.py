"""Arrow schemas of everything that is written about images and segments."""

from enum import Enum

import pyarrow as pa


class Status(str, Enum):
    """What became of an image: the column `status`. A member is its text, wherever text is taken."""

    OK = "ok", "The image has labels (in an evaluation: it was compared with its ground truth)."
    EMPTY = "empty", "The image's file has no bytes."
    UNSUPPORTED = "unsupported", "It is in a format that is not read, or it is a link or a device in a tar."
    TOO_LARGE = "too_large", "It has more pixels or bytes than are read, or more than fit the memory."
    UNDECODABLE = "undecodable", "Its bytes are broken, or they are no image."
    UNREADABLE = "unreadable", "Its bytes could not be had: access was denied, or the row of the table holds none."
    BAD_SHARD = (
        "bad_shard",
        "The shard or its row group cannot be read (any further), or has too many images.",
    )
    MISSING = "missing", "The file that was planned does not exist (any more)."
    CHANGED = "changed", "The file is not the one that was planned: its size or its version is another."
    BAD_ID = "bad_id", "With --image-ids key: the key is no COCO image id, or the unit has it twice."
    KILLED_WORKER = "killed_worker", "Its process died twice while it alone was being worked on."
    LABEL_FAILED = "label_failed", "The model raised an error for this image."
    NO_TRUTH = "no_truth", "Evaluation: the input has no ground truth for this image."
    BAD_TRUTH = "bad_truth", "Evaluation: the ground truth is no PNG of indices, or it holds a value that is no class."
    TRUTH_SIZE = "truth_size", "Evaluation: the ground truth has another size than the image."
    LABEL_SIZE = "label_size", "Evaluation of a run: its labels have another size than the image."
    NOT_LABELED = "not_labeled", "Evaluation of a run: it has no image of this key, or several."

    sentence: str
    """What the status means, in one sentence."""

    def __new__(cls, value: str, sentence: str) -> "Status":
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    def __str__(self) -> str:  # Enum's own would give "Status.OK"
        return str.__str__(self)

    def __format__(self, spec: str) -> str:
        return str.__format__(self, spec)


def _field(name: str, dtype: pa.DataType, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, dtype, nullable=nullable)


RLE_TYPE = pa.struct([_field("size", pa.list_(pa.int32())), _field("counts", pa.string())])

# One row per image × category that has pixels; `rle` is what pycocotools.mask.decode takes.
SEGMENTS_SCHEMA = pa.schema(
    [
        _field("image_id", pa.int64()),
        _field("category_id", pa.int32()),  # 1..N
        _field("area", pa.int64()),  # pixels
        _field("area_fraction", pa.float64()),  # of the image's pixels
        _field("bbox", pa.list_(pa.float64(), 4)),  # x, y, width, height in pixels
        _field("mean_confidence", pa.float64()),  # score of the class before thresholds, 0..1
        _field("p10_confidence", pa.float64()),  # the lowest level that at least a tenth of the pixels do not exceed
        _field("margin", pa.float64()),  # mean of best minus second-best score
        _field("runner_up", pa.int32(), nullable=True),  # the most frequent second-best category; 0 is background
        _field("components", pa.int32()),  # 4-connected
        _field("rle", RLE_TYPE),
    ]
)

# One row per image read. Measured columns are null where the image was not labeled (status other than "ok").
IMAGES_SCHEMA = pa.schema(
    [
        _field("image_id", pa.int64(), nullable=True),  # null: bad_id
        _field("key", pa.string()),
        _field("file_name", pa.string()),
        _field("unit", pa.int32()),
        _field("index", pa.int32()),  # in its unit
        _field("width", pa.int32(), nullable=True),  # after the orientation is applied
        _field("height", pa.int32(), nullable=True),
        _field("orientation", pa.int8(), nullable=True),  # EXIF 1..8, as found
        _field("status", pa.string()),
        _field("error", pa.string(), nullable=True),
        _field("categories", pa.list_(pa.int32()), nullable=True),  # ascending, those in segments/
        _field("coverage", pa.float64(), nullable=True),  # fraction of pixels with a class
        _field("background_fraction", pa.float64(), nullable=True),
        _field("ignored_fraction", pa.float64(), nullable=True),
        _field("mean_confidence", pa.float64(), nullable=True),  # of all pixels, before thresholds
        _field("entropy", pa.float64(), nullable=True),
        _field("anomaly_tokens", pa.int32(), nullable=True),
        _field("windows", pa.int32(), nullable=True),
        _field("metadata", pa.string(), nullable=True),  # JSON
        _field("seconds", pa.float64(), nullable=True),  # the one column that differs between equal runs
    ]
)

MASK_COLUMNS = ("labels_png", "argmax_png", "confidence_png")

PART_SCHEMA = pa.schema(
    [
        *IMAGES_SCHEMA,
        _field("segments", pa.list_(_field("element", pa.struct(list(SEGMENTS_SCHEMA))))),
        *(_field(name, pa.large_binary(), nullable=True) for name in MASK_COLUMNS),
    ]
)

CARRIED = ("index", "key", "file_name", "metadata", "status", "error", "width", "height", "orientation")

MAPS = ("labels", "argmax", "confidence", "runner_up", "margin")

LABELED_FIELDS: list[pa.Field] = [
    pa.field("index", pa.int32(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("file_name", pa.string(), nullable=False),
    pa.field("metadata", pa.string()),
    pa.field("status", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("orientation", pa.int8()),
    *(pa.field(name, pa.large_binary()) for name in MAPS),
    pa.field("entropy", pa.float64()),
    pa.field("anomaly_tokens", pa.int32()),
    pa.field("windows", pa.int32()),
    pa.field("seconds", pa.float64()),
]
