"""`python -m deepalign_cli` is `deepalign`."""

import sys

from deepalign_cli.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
