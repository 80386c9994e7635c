"""On a worker's PYTHONPATH this kills the process over certain images, as a broken codec or driver would.

POISON="decode 41 43; label 47 53; read 67 71" kills whoever opens an image of 41 × 43 pixels (height, width), whoever
labels one of 47 × 53, and whoever reads one of 67 × 71 from a tar. A fourth word names a folder: every kill uses up
one of its files, and without files nobody is killed.
"""

import importlib.abc
import importlib.util
import os
import signal
import sys


def poisons(stage):
    """Shape → folder of kills (None: no end of them) of a stage."""
    entries = [entry.split() for entry in os.environ.get("POISON", "").split(";")]
    return {(int(e[1]), int(e[2])): (e[3] if len(e) > 3 else None) for e in entries if e and e[0] == stage}


def meet(stage, shape):
    """SIGKILL for this process if the shape is poison to the stage and the kills are not used up."""
    if shape not in poisons(stage):
        return
    folder = poisons(stage)[shape]
    if folder:
        left = os.listdir(folder)
        if not left:
            return
        os.unlink(os.path.join(folder, left[0]))
    os.kill(os.getpid(), signal.SIGKILL)


def poison_decoding(module):
    original = module.open

    def open_image(*args, **options):
        image = original(*args, **options)
        meet("decode", image.size[::-1])
        return image

    module.open = open_image


def poison_labeling(module):
    original = module.WindowSegmenter.segment_variants

    def segment_variants(self, images, *sizes):
        for image in images:
            meet("label", image.shape[:2])
        return original(self, images, *sizes)

    module.WindowSegmenter.segment_variants = segment_variants


def poison_reading(module):
    original = module._body

    def body(*words):
        data = original(*words)
        meet("read", (module.header_size(data or b"") or (0, 0))[::-1])
        return data

    from scclip.pipeline.inputs.headers import header_size

    module.header_size, module._body = header_size, body


class Hook(importlib.abc.MetaPathFinder):
    """Changes one module right after it has been imported."""

    def __init__(self, name, change):
        self.name, self.change = name, change

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            self.change(module)

        spec.loader.exec_module = execute_and_change
        return spec


if poisons("decode"):
    sys.meta_path.insert(0, Hook("PIL.Image", poison_decoding))
if poisons("read"):
    sys.meta_path.insert(0, Hook("scclip.pipeline.inputs.readers.webdataset", poison_reading))
if poisons("label"):
    sys.meta_path.insert(0, Hook("scclip.segmentation.segmenter", poison_labeling))
