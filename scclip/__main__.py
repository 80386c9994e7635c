"""`scclip VERB …` and `python -m scclip VERB …`."""

import sys

from scclip.jobs.cli.paths import standard_library_first

standard_library_first()

from scclip.jobs.cli.main import main  # noqa: E402 (the user's own files must not stand in for what it imports)

if __name__ == "__main__":
    sys.exit(main())
