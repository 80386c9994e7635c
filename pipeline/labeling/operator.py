"""Labels a Ray Data dataset: an operator for pipelines of one's own, in the manner of `ray.data.llm.build_processor`.

    import ray
    from scclip.ray import LabelerConfig, label_dataset

    config = LabelerConfig(model="ViT-B-16-quickgelu", pretrained="openai", vocabulary=["car", "road"])
    label_dataset(ray.data.read_parquet("s3://bucket/photos"), config).write_parquet("s3://bucket/labeled")

Every row comes back with its own columns and five more: `mask` (the label map as PNG), `segments` (a struct for each
class: that of segments/ without the image's id, and the class's name), `mean_confidence`, `status` and `error`. A
broken image is a row with a status other than "ok" and null labels. Labels equal those of `scclip label` with the same
options on the same kind of hardware.

The image column may hold encoded files (bytes, Hugging Face's struct<bytes, path>, Spark's struct, lists of these),
uint8 arrays, RGB (H, W, 3) or grey, or Pillow images. Prefer files, as `read_parquet`, `read_binary_files` and
`read_webdataset(decoder=None)` give them: `read_images` fails for the first file that is broken, and does not turn
pictures as their EXIF orientation says. There is no ledger here: an image that kills its process is tried again by Ray
as often as its settings allow; `scclip label` sets it aside.

Ray, PyTorch and the model are imported when a labeler is built: importing this module takes none of them.
"""

import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from scclip.encoder.config import ModelConfig
from scclip.errors import UserError
from scclip.segmentation.types import SegmentationOptions

if TYPE_CHECKING:
    import pyarrow as pa
    from ray import ObjectRef
    from ray.data import Dataset

    from scclip.pipeline.cluster.resources import Resources
    from scclip.pipeline.labeling.labeler import LabelerSpec
    from scclip.pipeline.labeling.models import Words
    from scclip.pipeline.labeling.rows import RowsConfig

CPU_BATCH, GPU_BATCH = 32, 128  # images
READER_CPUS = 1.0  # that actors leave on a node: Ray Data's own tasks ask for so much

RowFunction = Callable[[dict[str, Any]], dict[str, Any]]  # as `Dataset.map` takes it


@dataclass(frozen=True, kw_only=True)
class LabelerConfig(SegmentationOptions, ModelConfig):
    """Options of a labeler: those of `scclip label` for model and segmentation by the same names, and these."""

    vocabulary: "Words" = "demo"
    """A list of class names, a mapping of names to synonyms, a built-in name, a .txt or .yaml, or a `Vocabulary`."""
    image_column: str | None = None
    """Column of the images [image, jpg, png, … whichever there is]."""
    prefix: str = ""
    """Stands before the names of the five columns, where the data has some of them already."""
    exif: Literal["apply", "ignore"] = "apply"
    """Turn encoded pictures as their EXIF orientation says, or leave them as stored."""
    reduced_decode: bool = False
    """Decode large JPEGs at 1/2, 1/4 or 1/8 scale, never below twice the model's resolution."""
    actors: str = ""
    """MIN[:MAX] actors with a model [one per GPU; without GPUs one per node]."""
    gpus_per_actor: float | None = None
    """GPU of one actor: 0, 1 or a fraction [1 where the cluster has a GPU, else 0]."""
    batch_size: int | None = None
    """Images of a batch, which are decoded together: fewer of them take less memory [32 on a CPU, 128 on a GPU]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.exif not in ("apply", "ignore"):
            raise UserError(f"exif {self.exif!r} is unknown; choose apply, ignore")
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"batch_size {self.batch_size} must be at least 1")

    def part(self, kind: type[Any]) -> Any:
        """The options of one of the classes whose fields these are."""
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})


@dataclass(frozen=True)
class DatasetLabeler:
    """What `build_labeler` makes: call it with a dataset. The weights lie in the object store, once on each node."""

    rows: "RowsConfig"
    resources: "Resources"
    batch_size: int
    spec: "ObjectRef[LabelerSpec]"
    preprocess: RowFunction | None = None
    postprocess: RowFunction | None = None

    def __call__(self, dataset: "Dataset") -> "Dataset":
        """The dataset with its labels; nothing runs before it is consumed.

        Raises:
            UserError: there is no image column, or a column that would be added is there already. Where Ray Data does
                not know the columns yet, the dataset raises it when it runs.
        """
        if self.preprocess:
            dataset = dataset.map(self.preprocess)
        elif known := dataset.schema(fetch_if_missing=False):
            self.rows.find_image(known.names)
        labeled = self._graph(dataset)
        return labeled.map(self.postprocess) if self.postprocess else labeled

    def _graph(self, dataset: "Dataset") -> "Dataset":
        """Decoding, labeling and describing, as `scclip label` has them."""
        from ray.data import ActorPoolStrategy

        from scclip.pipeline.labeling import rows

        share = self.resources
        batches: dict[str, Any] = {"batch_format": "pyarrow", "zero_copy_batch": True}
        pool = ActorPoolStrategy(
            min_size=share.min_actors,
            max_size=share.max_actors,
            max_tasks_in_flight_per_actor=share.calls_in_flight + 1,
            max_concurrent_calls_per_actor=share.calls_in_flight,
        )
        decode = functools.partial(rows.decode_rows, config=self.rows)
        describe = functools.partial(rows.describe_rows, config=self.rows)
        return (
            dataset.map_batches(decode, batch_size=self.batch_size, num_cpus=share.decode_cpus, **batches)
            .map_batches(
                RowLabeler,
                fn_constructor_args=([self.spec],),
                batch_size=self.batch_size,
                compute=pool,
                num_cpus=share.actor_cpus,
                num_gpus=share.gpus_per_actor or None,
                **batches,
            )
            .map_batches(describe, num_cpus=share.commit_cpus, **batches)
        )


class RowLabeler:
    """The actor: one model, from a spec in the object store."""

    def __init__(self, spec: "list[ObjectRef[LabelerSpec]]") -> None:
        import ray

        self.labeler = ray.get(spec[0]).start()

    def __call__(self, table: "pa.Table") -> "pa.Table":
        """A batch with decoded images → the same with labeled ones."""
        from scclip.pipeline.labeling.rows import label_rows

        return label_rows(table, self.labeler)


def label_dataset(
    dataset: "Dataset",
    config: LabelerConfig,
    *,
    preprocess: RowFunction | None = None,
    postprocess: RowFunction | None = None,
) -> "Dataset":
    """Labels the images of a dataset: `build_labeler(config, …)(dataset)`."""
    return build_labeler(config, preprocess=preprocess, postprocess=postprocess)(dataset)


def build_labeler(
    config: LabelerConfig, *, preprocess: RowFunction | None = None, postprocess: RowFunction | None = None
) -> DatasetLabeler:
    """Loads a model for one or several datasets. Joins or starts Ray as Ray Data does, if it does not run yet.

    Args:
        config: model, vocabulary and the rest.
        preprocess: a row → the row with its image column, run before labeling; None: rows are taken as they are.
        postprocess: a labeled row → what is kept of it, run after labeling; None: everything.

    Returns:
        A function of a dataset that returns the labeled dataset.

    Raises:
        UserError: model, vocabulary or an option is wrong, or the cluster cannot hold the actors; one line with the
            remedy. What the vocabulary's check found is issued as warnings.
    """
    import ray

    from scclip.encoder.checkpoints import load_clip
    from scclip.pipeline.inputs.decoding import DecodeConfig
    from scclip.pipeline.labeling.labeler import LabelerSpec
    from scclip.pipeline.labeling.models import find_model, load_vocabulary, load_warnings
    from scclip.pipeline.labeling.rows import RowsConfig
    from scclip.pipeline.labeling.text_features import text_features
    from scclip.segmentation.settings import segmenter_config

    model, vocabulary = config.part(ModelConfig), load_vocabulary(config.vocabulary)
    for line in load_warnings(model, vocabulary):
        warnings.warn(line, stacklevel=2)
    if not ray.is_initialized():
        ray.init()
    share = shares(config)
    cuda = share.device == "cuda"
    clip = load_clip(find_model(model, cuda))
    segmenter = segmenter_config(config.part(SegmentationOptions), vocabulary, clip.source, cuda)
    spec = LabelerSpec.of(clip, vocabulary, text_features(clip, vocabulary, cuda), segmenter, share.device)
    reduced_side = 2 * segmenter.short_side if config.reduced_decode else 0
    rows = RowsConfig(
        categories=vocabulary.categories,
        image_column=config.image_column,
        prefix=config.prefix,
        decode=DecodeConfig(exif=config.exif, reduced_side=reduced_side),
    )
    batch = config.batch_size or (GPU_BATCH if cuda else CPU_BATCH)
    return DatasetLabeler(rows, share, batch, ray.put(replace(spec, threads=share.threads)), preprocess, postprocess)


def shares(config: LabelerConfig) -> "Resources":
    """What the actors and the stages get of the cluster; a node keeps a CPU for the tasks of the rest of a pipeline."""
    from scclip.pipeline.cluster.nodes import living_nodes, nodes_to_come, shapes
    from scclip.pipeline.cluster.resources import ComputeConfig, divide

    nodes, more = shapes(living_nodes()), nodes_to_come()
    compute = ComputeConfig(actors=config.actors, gpus_per_actor=config.gpus_per_actor)
    share = divide(compute, nodes=nodes, more=more)
    largest = max((node.cpus for node in [*nodes, *(more or ())]), default=0.0)
    return replace(share, actor_cpus=min(share.actor_cpus, max(0.0, largest - READER_CPUS)))
