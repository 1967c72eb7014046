"""``python -m repro`` is ``repro``."""

import sys

from repro.cli.main import main

sys.exit(main())
