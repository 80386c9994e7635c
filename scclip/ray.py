"""A Ray Data operator that labels: `LabelerConfig`, `build_labeler`, `label_dataset`.

    from scclip.ray import LabelerConfig, label_dataset

    labeled = label_dataset(dataset, LabelerConfig(vocabulary="voc21", model="ViT-B-16-quickgelu", pretrained="openai"))

Their home is `scclip.pipeline.labeling.operator`: this is the one module of this folder that knows the pipeline.
Importing it loads neither Ray nor PyTorch.
"""

from scclip.pipeline.labeling.operator import DatasetLabeler, LabelerConfig, build_labeler, label_dataset

__all__ = ["DatasetLabeler", "LabelerConfig", "build_labeler", "label_dataset"]
