"""One exporter for each format."""
