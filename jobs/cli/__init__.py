"""The command line: options, errors, progress, the Ray that a verb runs on."""
