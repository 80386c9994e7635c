"""The options of every verb, one module each. They import no heavy library, so `scclip VERB --help` answers at once."""
