"""`scclip VERB …` and `python -m scclip VERB …`."""

import sys

from scclip.jobs.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
