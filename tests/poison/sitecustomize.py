"""On a worker's PYTHONPATH this kills the process over one image, as a broken codec or driver would.

POISON="decode 41 43" kills whoever opens an image of 41 × 43 pixels (height, width), "label 41 43" whoever labels it.
POISON_TIMES names a folder: every kill uses up one of its files, and without files nobody is killed any more.
"""

import importlib.abc
import importlib.util
import os
import signal
import sys

STAGE, HEIGHT, WIDTH = (os.environ.get("POISON") or "none 0 0").split()
SHAPE = (int(HEIGHT), int(WIDTH))


def kill():
    """SIGKILL for this process, unless the kills are used up."""
    folder = os.environ.get("POISON_TIMES")
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
        if image.size[::-1] == SHAPE:
            kill()
        return image

    module.open = open_image


def poison_labeling(module):
    original = module.Segmenter.segment

    def segment(self, images):
        if any(image.shape[:2] == SHAPE for image in images):
            kill()
        return original(self, images)

    module.Segmenter.segment = segment


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


if STAGE == "decode":
    sys.meta_path.insert(0, Hook("PIL.Image", poison_decoding))
if STAGE == "label":
    sys.meta_path.insert(0, Hook("scclip.segmenter", poison_labeling))
