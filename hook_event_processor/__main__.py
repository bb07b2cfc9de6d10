"""`python -m hook_event_processor` is `hep`; the name in the process list is the package's."""

import sys

from hook_event_processor.cli import main

if __name__ == "__main__":
    sys.exit(main())
