"""A dataset as shards in, labels out: everything that knows Ray, files and tables. Folders stand in README's order."""
