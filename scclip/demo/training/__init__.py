"""The training of the demo's model."""
