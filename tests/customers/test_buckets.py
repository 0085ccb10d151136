"""Contents in a bucket: the same as on a disk, over the S3 protocol of a server of somebody else's (SeaweedFS)."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from customers.document.buckets import BucketObjects, object_store
from customers.document.objects import Corrupt, DiskObjects, ObjectStore
from svyaz_cli.embedded import free_port

BLOCK = 1024 * 1024


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a bucket on this machine; how it is reached is in the environment."""
    folder = tmp_path_factory.mktemp("weed")
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    identity = {
        "name": "svyaz",
        "credentials": [{"accessKey": "svyaz", "secretKey": "not a secret"}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    options = [f"-{name}.port={port}" for name, port in ports.items()]
    options += [f"-{name}.port.grpc={free_port()}" for name in ports]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false", "-master.volumeSizeLimitMB=64"]
    weed = Path(sys.executable).parent / "weed"
    options += ["-s3", f"-s3.config={folder}/s3.json", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    with (folder / "log").open("wb") as log, pytest.MonkeyPatch.context() as environment:
        server = subprocess.Popen([weed, "-logtostderr", "server", *options], stdout=log, stderr=log)
        try:
            for name, value in {
                "AWS_ACCESS_KEY_ID": "svyaz",
                "AWS_SECRET_ACCESS_KEY": "not a secret",
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
                "AWS_REGION": "here",
            }.items():
                environment.setenv(name, value)
            _wait(f"http://127.0.0.1:{ports['s3']}/healthz", server, folder / "log")
            yield "s3://documents/of/svyaz"
        finally:
            # It would take its time to say good-bye to itself.
            server.kill()
            server.wait(20)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(log.read_text()[-2000:])


@pytest.fixture(params=["disk", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return object_store(str(tmp_path) if request.param == "disk" else request.getfixturevalue("bucket"))


def content(blocks: int) -> tuple[str, list[bytes]]:
    """A content that nobody else has, and its hash."""
    data = [os.urandom(BLOCK) for _ in range(blocks)] + [b"the end"]
    return hashlib.sha256(b"".join(data)).hexdigest(), data


# The last one is more than a part.
@pytest.mark.parametrize("blocks", [0, 1, 18])
def test_what_goes_in_comes_out(objects: ObjectStore, blocks: int) -> None:
    digest, data = content(blocks)
    whole = b"".join(data)
    assert not objects.exists("Бишкек/../x", digest)
    for _ in range(2):
        objects.put("Бишкек/../x", digest, iter(data))
        assert objects.exists("Бишкек/../x", digest)
        assert objects.read("Бишкек/../x", digest, 0, BLOCK) == whole[:BLOCK]
        assert objects.read("Бишкек/../x", digest, len(whole) - 5, BLOCK) == whole[-5:]
    assert objects.read("Бишкек/../x", digest, len(whole), BLOCK) == b""
    assert not objects.exists("osh", digest)
    for _ in range(2):
        objects.remove("Бишкек/../x", digest)
        assert not objects.exists("Бишкек/../x", digest)
    with pytest.raises(FileNotFoundError):
        objects.read("Бишкек/../x", digest, 0, BLOCK)


def test_nothing_is_a_content_too(objects: ObjectStore) -> None:
    digest = hashlib.sha256().hexdigest()
    objects.put("bishkek", digest, [b""])
    assert objects.exists("bishkek", digest)
    assert objects.read("bishkek", digest, 0, BLOCK) == b""


@pytest.mark.parametrize("blocks", [0, 18])
def test_what_isnt_what_it_says_it_is_isnt_kept(objects: ObjectStore, blocks: int) -> None:
    digest, data = content(blocks)
    with pytest.raises(Corrupt):
        objects.put("bishkek", digest, [*data, b"and more"])
    assert not objects.exists("bishkek", digest)


def test_who_isnt_there_or_keeps_us_out_is_an_error_of_the_place(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, data = content(0)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    stranger = BucketObjects(bucket)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    nobody = BucketObjects(bucket)
    for objects in (stranger, nobody):
        with pytest.raises(OSError, match="object store"):
            objects.put("bishkek", digest, data)
        with pytest.raises(OSError, match="object store"):
            objects.exists("bishkek", digest)


def test_a_place_is_a_directory_or_a_bucket(tmp_path: Path) -> None:
    assert isinstance(object_store(str(tmp_path)), DiskObjects)
    with pytest.raises(ValueError, match="isn't a place"):
        object_store("ftp://somewhere/else")
