"""Programs of Node.js with the packages of their lock file, installed once in the cache. Not npm's other uses."""

import fcntl
import hashlib
import pathlib
import shutil
import subprocess

from claims import cache

INSTALL_WITHIN_SECONDS = 300


def installed(source: pathlib.Path) -> pathlib.Path:
    """A folder in the cache with `source`'s packages and its files as they are now."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    key = hashlib.sha256((node + (source / "package-lock.json").read_text()).encode()).hexdigest()[:16]
    folder = cache() / f"{source.name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "__pycache__", "*.py"))
        if not (folder / "node_modules/complete").exists():
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, check=True,
                           timeout=INSTALL_WITHIN_SECONDS, capture_output=True)
            (folder / "node_modules/complete").touch()
    return folder
