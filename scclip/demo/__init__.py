"""Drawn scenes with exact ground truth, and the small model that comes with the package."""
