"""`scclip label INPUT [INPUT …] OUTPUT`: image shards in, COCO masks and Parquet statistics out.

    scclip label s3://bucket/shards/*.tar s3://bucket/labels --vocabulary street.yaml \
        --model ViT-B-16-quickgelu --pretrained openai

A finished run is recognised before PyTorch and Ray are imported.
"""

from scclip.encoder.config import ModelConfig
from scclip.jobs.cli.errors import warn
from scclip.jobs.options.label import LabelOptions
from scclip.jobs.setup.finished import asked_for, plan_again, report_nothing_to_do
from scclip.pipeline.cluster.resources import ComputeConfig
from scclip.pipeline.labeling.models import load_vocabulary, load_warnings
from scclip.pipeline.run.files import RunFiles
from scclip.pipeline.run.tidying import tidy
from scclip.pipeline.storage.files import from_root
from scclip.segmentation.types import SegmentationOptions


def label(options: LabelOptions, model: ModelConfig, segmentation: SegmentationOptions, compute: ComputeConfig) -> int:
    """Runs a labeling job to its end, or goes on where an earlier call stopped.

    Returns:
        0.

    Raises:
        JobFailed: more images failed than `max_failed` allows, or Ray ended the job.
        UserError: options, input, OUTPUT or the cluster are wrong.
    """
    vocabulary, files = load_vocabulary(options.vocabulary), RunFiles(from_root(options.output))
    warn(load_warnings(model, vocabulary))
    asked = asked_for(options, model, segmentation, compute, vocabulary)
    planned = plan_again(files, asked, options)
    if planned and planned.finished and not (options.retry_failed or options.dry_run or options.report):
        warn(planned.passed.lines())
        tidy(files, {unit.number for unit in planned.known})
        return report_nothing_to_do(options, files, vocabulary)
    from scclip.jobs.setup.running import run_labeling  # takes seconds: it imports PyTorch and Ray

    return run_labeling(options, model, segmentation, compute, vocabulary, asked, planned)
