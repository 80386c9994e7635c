"""Files on any fsspec URL: reading with retries, writing once and whole."""
