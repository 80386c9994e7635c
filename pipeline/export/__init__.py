"""A finished run in the form that a trainer reads."""
