"""`python -m hook_event_processor` is `hep`; the name in the process list is the package's."""

from hook_event_processor.cli import program

if __name__ == "__main__":
    program()
