"""Documents and what is in them: kept once, whole, for as long as somebody has it and no longer."""

import base64
import hashlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask

from chassis.clock import Clock
from chassis.db import Database
from chassis.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound
from chassis.events import acting
from chassis.unit import Unit
from customers import store as everything
from customers.document import contents, store, uploads
from customers.document.api import Documents
from customers.document.contents import Contents, blocks_of
from customers.document.domain import Document, media_type
from customers.document.objects import BLOCK_BYTES, Corrupt, DiskObjects
from svyaz.customers.v1 import document_pb2, document_pb2_grpc
from svyaz_cli.issuer import Issuer
from tests.conftest import ServiceDatabase
from tests.customers.test_api import person
from tests.serving import Caller, customers_registrations, serving

DOCUMENT = "svyaz.customers.v1.DocumentService/"
MAX_BYTES = 10 * 1024 * 1024


class Archive:
    """A customers service whose contents lie in a folder of the test's."""

    def __init__(self, database: Database, folder: Path, channel: grpc.Channel, issuer: Issuer) -> None:
        self.database, self.folder = database, folder
        self.objects = DiskObjects(folder)
        self.contents = Contents(database, self.objects, MAX_BYTES)
        self._channel, self._issuer = channel, issuer

    def caller(self, branch: str) -> Caller:
        return Caller(self._channel, self._issuer.token(["agent"], [branch]))

    def file(self, data: bytes, branch: str = "bishkek") -> Path:
        digest = hashlib.sha256(data).hexdigest()
        return self.folder / branch.encode().hex() / digest[:2] / digest

    def timers(self, purpose: str) -> list[str]:
        timer = self.database.metadata.tables["timer"]
        with acting("customers", "test"), self.database.unit() as unit:
            return list(unit.session.scalars(sa.select(timer.c.aggregate_id).where(timer.c.purpose == purpose)))

    def sweep(self, data: bytes, branch: str = "bishkek") -> None:
        """What the timer does when its hour is over."""
        key = f"{hashlib.sha256(data).hexdigest()} {branch}"
        assert key in self.timers(contents.SWEEP)
        with acting("customers", "timer/sweep", branch), self.database.unit() as unit:
            self.contents.timers()[contents.SWEEP](key, unit)


@pytest.fixture(scope="module")
def archive(
    database_for: Callable[..., ServiceDatabase], issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Archive]:
    url = database_for("customers").url
    database = Database(url, clock=Clock(), metadata=everything.metadata, resources=everything.RESOURCES)
    folder = tmp_path_factory.mktemp("contents")
    add = document_pb2_grpc.add_DocumentServiceServicer_to_server
    registrations = [one for one in customers_registrations(database) if one[0] is not add]
    registrations.append((add, Documents(database, Contents(database, DiskObjects(folder), MAX_BYTES))))
    with serving("customers", registrations, issuer) as address, grpc.insecure_channel(address) as channel:
        yield Archive(database, folder, channel, issuer)
    database.close()


@pytest.fixture(scope="module")
def agent(archive: Archive) -> Caller:
    return archive.caller("bishkek")


def attached(data: bytes, **values: Any) -> document_pb2.DocumentAttachment:
    return document_pb2.DocumentAttachment(content=base64.b64encode(data).decode(), **values)


def made(agent: Caller, *attachments: document_pb2.DocumentAttachment, **values: Any) -> Any:
    body = document_pb2.Document(**{"name": "contract", "attachment": attachments, **values})
    return agent(f"{DOCUMENT}CreateDocument", document=body)


def changed(agent: Caller, document: Any, *attachments: document_pb2.DocumentAttachment) -> Any:
    body = document_pb2.Document(id=document.id, attachment=attachments)
    return agent(f"{DOCUMENT}UpdateDocument", document=body, update_mask=FieldMask(paths=["attachment"]))


def fetched(agent: Caller, document_id: str, attachment_id: str = "") -> bytes:
    data = b""
    while True:
        piece = agent(f"{DOCUMENT}GetContent", document_id=document_id, attachment_id=attachment_id, offset=len(data))
        assert piece.offset == len(data)
        if not piece.data:
            assert piece.size == len(data)
            return data
        data += piece.data


def some(size: int) -> bytes:
    """A content that nobody else has."""
    seed = uuid.uuid4().bytes
    return (seed * (size // len(seed) + 1))[:size]


def test_a_content_goes_in_and_out_and_only_its_hash_is_told(archive: Archive, agent: Caller) -> None:
    data = some(1000)
    document = made(agent, attached(data, name="scan.pdf"), attached(b"page", id="p"), name="passport")
    first, second = document.attachment
    assert (second.id, first.mime_type, second.mime_type) == ("p", "application/pdf", "application/octet-stream")
    assert (first.size.amount, first.size.units) == ("1000", "bytes")
    assert first.content_hash == hashlib.sha256(data).hexdigest()
    assert base64.b64decode(first.content) == data
    assert first.url == f"/document/v1/document/{document.id}/attachment/{first.id}"
    assert agent(f"{DOCUMENT}GetDocument", id=document.id) == document
    assert (fetched(agent, document.id), fetched(agent, document.id, "p")) == (data, b"page")
    assert archive.file(data).read_bytes() == data
    event = archive.database.log.event
    with acting("customers", "test"), archive.database.unit() as unit:
        told = unit.session.scalars(sa.select(event.c.data).where(event.c.aggregate_id == document.id)).all()
    assert not any(first.content.encode() in one for one in told)
    (found,) = agent(
        f"{DOCUMENT}ListDocuments", filter=[{"path": "attachment.content", "value": [first.content]}]
    ).items
    assert found == document
    wrong = {"path": "attachment.content", "operator": "OPERATOR_REGEX", "value": ["a"]}
    with pytest.raises(InvalidArgument, match="same"):
        agent(f"{DOCUMENT}ListDocuments", filter=[wrong])


def test_the_same_is_kept_once_and_goes_with_the_last_who_has_it(archive: Archive, agent: Caller) -> None:
    data = some(2000)
    one, other = made(agent, attached(data)), made(agent, attached(data))
    before = archive.file(data).stat().st_ino
    assert made(agent, attached(data), name="third").attachment[0].content_hash == one.attachment[0].content_hash
    assert archive.file(data).stat().st_ino == before
    for item in agent(f"{DOCUMENT}ListDocuments", filter=[{"path": "name", "value": ["third"]}]).items:
        agent(f"{DOCUMENT}DeleteDocument", id=item.id)
    agent(f"{DOCUMENT}DeleteDocument", id=one.id)
    archive.sweep(data)
    assert fetched(agent, other.id) == data
    changed(agent, other)
    archive.sweep(data)
    assert not archive.file(data).exists()
    with pytest.raises(NotFound):
        fetched(agent, other.id)
    # And again from the beginning.
    assert fetched(agent, made(agent, attached(data)).id) == data


def test_a_branch_has_its_own(archive: Archive, agent: Caller) -> None:
    data = some(500)
    document, osh = made(agent, attached(data)), archive.caller("osh")
    for method, named in (("GetDocument", "id"), ("GetContent", "document_id")):
        with pytest.raises(NotFound):
            osh(f"{DOCUMENT}{method}", **{named: document.id})
    # Who knows the hash hasn't got the content.
    by_hash = document_pb2.DocumentAttachment(content_hash=document.attachment[0].content_hash)
    with pytest.raises(InvalidArgument) as refusal:
        made(osh, by_hash)
    assert (refusal.value.reason, refusal.value.violations[0].field) == (
        "UNKNOWN_CONTENT",
        "attachment[0].content_hash",
    )
    made(osh, attached(data))
    agent(f"{DOCUMENT}DeleteDocument", id=document.id)
    archive.sweep(data)
    assert not archive.file(data).exists()
    assert archive.file(data, "osh").exists()


def test_what_cant_be_is_refused_by_its_field(agent: Caller) -> None:
    data = b"abc"
    wrong: dict[str, tuple[document_pb2.DocumentAttachment, ...]] = {
        "attachment[0].content": (document_pb2.DocumentAttachment(content="not base64!"),),
        "attachment[1].content_hash": (attached(data), attached(data, content_hash="0" * 64)),
        "attachment[0].content_hash": (document_pb2.DocumentAttachment(content_hash="../../etc/passwd"),),
        "attachment[1].id": (attached(data, id="x"), attached(data, id="y"), attached(data, id="y")),
    }
    for field, attachments in wrong.items():
        with pytest.raises(InvalidArgument) as refusal:
            made(agent, *attachments)
        assert refusal.value.violations[0].field == field
    with pytest.raises(InvalidArgument) as refusal:
        made(agent, attached(bytes(MAX_BYTES + 1)))
    assert refusal.value.reason == "CONTENT_TOO_LARGE"


def test_pieces_come_in_any_order_and_more_than_once(archive: Archive, agent: Caller) -> None:
    data = some(2 * BLOCK_BYTES + 100)
    upload = str(uuid.uuid4())
    digest = hashlib.sha256(data).hexdigest()

    def send(number: int, caller: Caller = agent) -> int:
        piece = data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
        answer = caller(f"{DOCUMENT}UploadContent", upload_id=upload, offset=number * BLOCK_BYTES, data=piece)
        return int(answer.received)

    finish = {"upload_id": upload, "size": len(data), "content_hash": digest}
    with pytest.raises(NotFound):
        agent(f"{DOCUMENT}FinishUpload", **finish)
    assert send(2) == 100
    assert send(0) == send(0) == BLOCK_BYTES + 100
    with pytest.raises(FailedPrecondition, match=f"{BLOCK_BYTES + 100} of"):
        agent(f"{DOCUMENT}FinishUpload", **finish)
    assert send(1) == len(data)
    with pytest.raises(InvalidArgument, match="isn't what was sent"):
        agent(f"{DOCUMENT}FinishUpload", **{**finish, "content_hash": "0" * 64})
    answer = agent(f"{DOCUMENT}FinishUpload", **finish)
    assert (answer.content_hash, answer.size) == (digest, len(data))
    assert agent(f"{DOCUMENT}FinishUpload", **finish) == answer
    document = made(agent, document_pb2.DocumentAttachment(content_hash=digest, name="film.mp4"))
    # Too large to be told with the rest.
    assert not document.attachment[0].HasField("content")
    assert fetched(agent, document.id) == data
    for offset, sent in ((1, b"x"), (0, b""), (0, bytes(BLOCK_BYTES + 1)), (-BLOCK_BYTES, b"x")):
        with pytest.raises(InvalidArgument):
            agent(f"{DOCUMENT}UploadContent", upload_id=upload, offset=offset, data=sent)
    (key,) = archive.timers(uploads.FORGET)
    with acting("customers", "timer/forget", "bishkek"), archive.database.unit() as unit:
        uploads.Uploads(archive.database, archive.contents).timers()[uploads.FORGET](key, unit)
    with pytest.raises(NotFound):
        agent(f"{DOCUMENT}FinishUpload", **finish)


def test_a_content_that_has_rotted_is_never_handed_out_and_is_mended_by_who_has_it(
    archive: Archive, agent: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    data = some(3000)
    document = made(agent, attached(data))
    archive.file(data).write_bytes(b"x" + data[1:])
    # What is known of the document is still seen.
    assert not agent(f"{DOCUMENT}GetDocument", id=document.id).attachment[0].HasField("content")
    assert "a content can't be read" in caplog.text
    with pytest.raises(DomainError) as refusal:
        fetched(agent, document.id)
    assert refusal.value.status == "INTERNAL"
    made(agent, attached(data))
    assert fetched(agent, document.id) == data


def test_a_document_that_is_changed_says_so_by_tmf667s_name_for_it(archive: Archive, agent: Caller) -> None:
    document = made(agent, attached(b"1"))
    changed(agent, document, attached(b"2"))
    event = archive.database.log.event
    with acting("customers", "test"), archive.database.unit() as unit:
        query = sa.select(event.c.type).where(event.c.aggregate_id == document.id).order_by(event.c.version)
        assert list(unit.session.scalars(query)) == ["DocumentCreateEvent", "DocumentChangeEvent"]


def test_who_a_document_is_about_stays(agent: Caller) -> None:
    about = person(agent)
    document = made(agent, related_party=[{"id": about.id, "at_referred_type": "Individual"}])
    found = agent(f"{DOCUMENT}ListDocuments", filter=[{"path": "related_party.id", "value": [about.id]}]).items
    assert [one.id for one in found] == [document.id]
    with pytest.raises(FailedPrecondition, match=document.id):
        agent("svyaz.customers.v1.PartyService/DeleteIndividual", id=about.id)


# --- two at a time ---------------------------------------------------------------------------------------------------


def test_a_writer_of_the_same_waits_for_the_sweeper_and_begins_anew(archive: Archive, agent: Caller) -> None:
    data = some(400)
    agent(f"{DOCUMENT}DeleteDocument", id=made(agent, attached(data)).id)
    seized, goes_on = threading.Event(), threading.Event()
    remove = archive.objects.remove

    class Slow(DiskObjects):
        def remove(self, branch: str, digest: str) -> None:
            seized.set()
            goes_on.wait(10)
            remove(branch, digest)

    slow = Contents(archive.database, Slow(archive.folder), MAX_BYTES)
    key = f"{hashlib.sha256(data).hexdigest()} bishkek"

    def sweep() -> None:
        with acting("customers", "timer/sweep", "bishkek"), archive.database.unit() as unit:
            slow.timers()[contents.SWEEP](key, unit)

    with ThreadPoolExecutor(2) as pool:
        sweeping = pool.submit(sweep)
        assert seized.wait(10)
        writing = pool.submit(made, agent, attached(data))
        assert not writing.done()
        goes_on.set()
        sweeping.result(20)
        document = writing.result(20)
    assert fetched(agent, document.id) == data


def test_the_sweeper_waits_for_who_is_about_to_have_it(archive: Archive, agent: Caller) -> None:
    data = some(400)
    document = made(agent, attached(data))
    changed(agent, document)
    digest = hashlib.sha256(data).hexdigest()
    with ThreadPoolExecutor(1) as pool:
        with acting("customers", "test", "bishkek"), archive.database.unit() as unit:
            assert store.hold(unit, "bishkek", [digest])
            sweeping = pool.submit(archive.sweep, data)
            used = unit.get(Document, document.id)
            store.use(unit, used, [digest], [])
        sweeping.result(20)
    assert archive.file(data).exists()


def test_what_was_kept_and_never_used_is_swept(archive: Archive) -> None:
    data = some(300)
    with acting("customers", "test", "bishkek"):
        archive.contents.keep("bishkek", lambda: blocks_of(data))
    timer = archive.database.metadata.tables["timer"]
    with acting("customers", "test"), archive.database.unit() as unit:
        key = f"{hashlib.sha256(data).hexdigest()} bishkek"
        due = unit.session.scalar(sa.select(timer.c.due).where(timer.c.aggregate_id == key))
        assert due is not None
        assert timedelta(minutes=59) < due - unit.at <= timedelta(hours=1)
    archive.sweep(data)
    assert not archive.file(data).exists()
    with acting("customers", "test", "bishkek"), archive.database.unit() as unit:
        assert not store.kept(unit, "bishkek", [hashlib.sha256(data).hexdigest()])


def test_many_who_keep_and_drop_the_same_never_lose_it(archive: Archive, agent: Caller) -> None:
    data = some(200)
    faults: list[str] = []

    def live(_: int) -> None:
        for _ in range(4):
            document = made(agent, attached(data))
            if fetched(agent, document.id) != data:
                faults.append("lost")
            agent(f"{DOCUMENT}DeleteDocument", id=document.id)

    def sweep(unit: Unit) -> None:
        archive.contents.timers()[contents.SWEEP](f"{hashlib.sha256(data).hexdigest()} bishkek", unit)

    stop = threading.Event()

    def sweeping() -> None:
        # Far more often than any timer would.
        while not stop.is_set():
            with acting("customers", "timer/sweep", "bishkek"), archive.database.unit() as unit:
                sweep(unit)

    with ThreadPoolExecutor(4) as pool:
        background = pool.submit(sweeping)
        results = list(pool.map(_outcome(live), range(3)))
        stop.set()
        background.result(20)
    # Swept between being kept and being used, which takes an hour in earnest, a content is refused; never lost.
    assert faults == []
    assert set(results) <= {"", "UNKNOWN_CONTENT"}


def _outcome(work: Callable[[int], None]) -> Callable[[int], str]:
    def run(number: int) -> str:
        try:
            work(number)
        except DomainError as error:
            return error.reason
        return ""

    return run


# --- the disk --------------------------------------------------------------------------------------------------------


def test_what_isnt_what_it_says_it_is_isnt_kept(tmp_path: Path) -> None:
    objects = DiskObjects(tmp_path)
    digest = hashlib.sha256(b"one").hexdigest()
    with pytest.raises(Corrupt):
        objects.put("b", digest, [b"another"])
    assert not objects.exists("b", digest)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_crash_has_left_goes_with_the_content(tmp_path: Path) -> None:
    objects = DiskObjects(tmp_path)
    digest = hashlib.sha256(b"one").hexdigest()
    objects.put("../a branch", digest, [b"o", b"ne"])
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    left, written = (file.parent / f"{digest}.{name}.part" for name in ("abc", "def"))
    for part in (left, written):
        part.write_bytes(b"o")
    os.utime(left, (0, 0))
    objects.remove("../a branch", digest)
    objects.remove("../a branch", digest)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [written]


@pytest.mark.parametrize(
    ("stated", "name", "served"),
    [
        ("image/PNG; charset=x", None, "image/png"),
        ("a scan", "scan.pdf", "application/pdf"),
        (None, "no such ending", "application/octet-stream"),
        ("text/html\r\nSet-Cookie: a=b", None, "application/octet-stream"),
    ],
)
def test_a_content_is_served_as_what_it_is_said_to_be(stated: str | None, name: str | None, served: str) -> None:
    assert media_type(stated, name) == served
