"""From an image to its label map: windows, stitching, scoring, refinement."""
