"""One run on disk: its files, how they are committed, what run.json holds, and whether all of it is sound."""
