"""Chunks of images become labeled chunks: the Ray graph, its actor, and who watches over both."""
