"""Arrow schemas of everything that is written about images and segments."""

import pyarrow as pa

OK = "ok"
KILLED = "killed_worker"


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
