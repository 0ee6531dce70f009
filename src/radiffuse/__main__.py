"""`python -m radiffuse`, for torchrun and for machines without the console script."""

import sys

from .cli import main

sys.exit(main())
