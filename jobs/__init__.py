"""What a person runs: one module per verb, `scclip VERB`."""
