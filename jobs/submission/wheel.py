"""Builds this package's wheel from the files that run here: no network, no build tool, equal bytes for equal files.

    data = bundle_bytes({"files/street.yaml": b""})  # the wheel's content and that file: a job's working directory
    python -m scclip.jobs.submission.wheel 0.1.0     # exit code 2 where another version is installed

A job's working directory holds the wheel unpacked, not the wheel itself: Ray installs wheels with `pip`, which nodes
may lack. The wheel names no dependencies: PyTorch, Ray and the other libraries are the cluster image's (`Dockerfile`).
"""

import base64
import hashlib
import importlib
import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

DISTRIBUTION = "scclip-pipeline"
PACKAGES = ("scclip", "scclip.jobs", "scclip.pipeline")  # in a checkout these are three folders side by side
SUFFIXES = {".py", ".yaml", ".j2", ".json", ".safetensors", ".md"}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date a zip can hold: equal files must give equal bytes


def package_files() -> dict[str, bytes]:
    """Returns path in the wheel → content, for everything that the package needs at run time."""
    files = dict[str, bytes]()
    for package in PACKAGES:
        root, folder = Path(importlib.import_module(package).__path__[0]), package.replace(".", "/")
        paths = (path for path in root.rglob("*") if path.suffix in SUFFIXES)
        files |= {f"{folder}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in paths}
    return dict(sorted(files.items()))


def wheel_files() -> dict[str, bytes]:
    """Returns all members of the wheel, with its metadata and RECORD."""
    info = f"{DISTRIBUTION.replace('-', '_')}-{version(DISTRIBUTION)}.dist-info"
    texts = {
        "METADATA": f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: {version(DISTRIBUTION)}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: scclip submit\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": "[console_scripts]\nscclip = scclip.__main__:main\n",
    }
    members = package_files() | {f"{info}/{name}": text.encode() for name, text in texts.items()}
    record = []
    for name, data in members.items():  # the digest in base64 for URLs, without padding
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record.append(f"{name},sha256={digest},{len(data)}")
    return members | {f"{info}/RECORD": "\n".join([*record, f"{info}/RECORD,,", ""]).encode()}


def bundle_bytes(files: Mapping[str, bytes], package: bool = True) -> bytes:
    """Returns a job's working directory as a zip with fixed dates and modes.

    Args:
        files: path in the working directory → content, of what goes along with the package.
        package: whether the wheel's content goes along, because the cluster may lack it.
    """
    members = (wheel_files() if package else {}) | dict(sorted(files.items()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name, EPOCH)
            member.external_attr, member.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(member, data)
    return buffer.getvalue()


def main(argv: Sequence[str]) -> int:
    """Returns 0 where exactly this version is installed here, else 2 and prints one line."""
    (wanted,) = argv
    if version(DISTRIBUTION) == wanted:
        return 0
    what = f"the cluster has {DISTRIBUTION} {version(DISTRIBUTION)}, not {wanted}"
    print(f"scclip submit: {what}; leave --installed out or install the same version there", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
