"""The benchmarks of `scclip bench`: one model, reading and writing, the Ray job, and many images."""
