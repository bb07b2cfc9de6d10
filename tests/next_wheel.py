"""Make a wheel of the next version out of a wheel: next_wheel.py WHEEL DIRECTORY.

It has another number, one more migration that changes the table of events, and a unit that differs.
"""

import base64
import hashlib
import sys
import zipfile
from pathlib import Path

OLD, NEW = "0.1.0", "0.2.0"
MIGRATION = b"""\
-- 9000: what a next version could add.
ALTER TABLE hook_events ADD COLUMN next_version text;
COMMENT ON COLUMN hook_events.next_version IS 'Added while the service ran.';
"""
REPLACED = {
    f"-{OLD}.dist-info/METADATA": (f"\nVersion: {OLD}\n", f"\nVersion: {NEW}\n"),
    "systemd/hook-event-processor.service": ("Description=Hook", "Description=Next hook"),
}


def changed(name: str, content: bytes) -> bytes:
    for end, (before, after) in REPLACED.items():
        if name.endswith(end):
            assert before.encode() in content, name
            return content.replace(before.encode(), after.encode())
    return content


def make(wheel: Path, folder: Path) -> None:
    record = []
    with (
        zipfile.ZipFile(wheel) as old,
        zipfile.ZipFile(folder / wheel.name.replace(f"-{OLD}-", f"-{NEW}-"), "w") as new,
    ):
        contents = {name: changed(name, old.read(name)) for name in old.namelist() if not name.endswith("/RECORD")}
        contents["hook_event_processor/sql/9000_next.sql"] = MIGRATION
        for name, content in contents.items():
            path = name.replace(f"-{OLD}.dist-info", f"-{NEW}.dist-info")
            new.writestr(path, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(content)}\n")
        path = f"hook_event_processor-{NEW}.dist-info/RECORD"
        new.writestr(path, "".join([*record, f"{path},,\n"]))


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
