"""What the wheel's build does beside copying files: it makes the man pages."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parents[1]


class BuildWithPages(build_py):
    """Copies the package's files, and writes the man pages beside them."""

    def run(self) -> None:
        if self.editable_mode:
            super().run()
            return
        # What an earlier build left there would go into the wheel, files that are no more among it.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        sys.path.insert(0, str(ROOT / "ops"))
        from pages import write

        write(Path(self.build_lib, "hook_event_processor", "man"))

    def get_source_files(self) -> list[str]:
        """What a source distribution needs to build a wheel."""
        more = [*ROOT.glob("ops/*.py"), *ROOT.glob("docs/*.md")]
        return [*super().get_source_files(), *(str(file.relative_to(ROOT)) for file in more)]
