"""Self-Calibrated CLIP (arXiv 2411.15869): training-free open-vocabulary segmentation, one image in, one label map out.

Knows neither Ray nor object storage. `Segmenter.segment(images)` is the numpy door, `Segmenter.segment_pixels` the
tensor door below it, `SelfCalibratedCLIP.encode_patches` the calibrated features below both.
"""
