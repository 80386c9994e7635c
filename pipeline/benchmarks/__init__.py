"""The eight public benchmarks: protocols, downloads, and shards with ground truth."""
