"""Vocabularies: what classes there are, how they are written in files, and their text features."""
