"""What every object store does, and what S3's addresses do when somebody follows them."""

import asyncio
import hashlib
import os
import secrets
import time
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from schemas.errors import NotFoundError, ObjectStoreFaultError
from storage.objects.memory import MemoryObjectStore
from storage.objects.port import ObjectStore, input_key, job_prefix, object_key
from storage.objects.s3 import S3ObjectStore
from storage.objects.writer import PART_BYTES, ObjectWriter, Written
from tests.services import BUCKET, S3Server

TEXT = "text/plain"


GIVEN = "STOKER_TEST_S3_"  # with ENDPOINT, ACCESS_KEY, SECRET_KEY: another S3 server to hold to the contract


@dataclass(frozen=True)
class Door:
    """How an S3 server is reached."""

    endpoint: str
    access_key: str
    secret_key: str

    def open(self, bucket: str = BUCKET, public_endpoint: str | None = None) -> S3ObjectStore:
        return S3ObjectStore(
            bucket,
            endpoint=self.endpoint,
            public_endpoint=public_endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key,
        )


@pytest.fixture(scope="module")
def door(request: pytest.FixtureRequest) -> Door:
    """The given S3 server, else our own."""
    if GIVEN + "ENDPOINT" in os.environ:
        return Door(*(os.environ[GIVEN + name] for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")))
    server: S3Server = request.getfixturevalue("s3_server")
    return Door(server.endpoint, server.access_key, server.secret_key)


@pytest.fixture(scope="module")
def opened(door: Door) -> Iterator[S3ObjectStore]:
    """A bucket; to open one takes longer than to empty it."""
    store = door.open()
    store.ensure_bucket()
    yield store
    store.close()


@pytest.fixture
def s3_store(opened: S3ObjectStore) -> S3ObjectStore:
    """A bucket with nothing in it."""
    opened.delete([entry.key for entry in opened.list("", None, 10_000)])
    return opened


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory":
        return MemoryObjectStore()
    s3: S3ObjectStore = request.getfixturevalue("s3_store")
    return s3


def keys(store: ObjectStore, prefix: str, after: str | None = None, limit: int = 100) -> list[str]:
    return [entry.key for entry in store.list(prefix, after, limit)]


CONTENTS = pytest.mark.parametrize(
    "content", [b"", b"bytes", bytes(range(256)) * 4096], ids=["none", "few", "a megabyte"]
)


@CONTENTS
async def test_what_is_put_from_an_event_loop_is_got(store: ObjectStore, content: bytes) -> None:
    assert await store.aput("a/b", content, TEXT) == hashlib.sha256(content).hexdigest()
    assert await asyncio.to_thread(store.get, "a/b") == content
    await store.aclose()


async def test_an_event_loop_puts_many_at_once(store: ObjectStore) -> None:
    await asyncio.gather(*(store.aput(f"a/{number:03}", b"%d" % number, TEXT) for number in range(200)))
    assert await asyncio.to_thread(keys, store, "a/", None, 300) == [f"a/{number:03}" for number in range(200)]
    assert await asyncio.to_thread(store.get, "a/117") == b"117"
    await store.aclose()


@CONTENTS
def test_what_is_put_is_got(store: ObjectStore, content: bytes) -> None:
    assert store.put("a/b", content, TEXT) == hashlib.sha256(content).hexdigest()
    assert store.get("a/b") == content
    assert store.head("a/b") == len(content)


def test_a_put_replaces_what_was_there(store: ObjectStore) -> None:
    store.put("a/b", b"first", TEXT)
    store.put("a/b", b"second", TEXT)
    assert store.get("a/b") == b"second"


def test_a_missing_object_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(NotFoundError):
        store.get("a/missing")
    assert store.head("a/missing") is None


@pytest.mark.parametrize("name", ["그림 1 (하늘).png", "a+b&c=d?e#f%20;g,h@i!j'k*l~m_n.txt"])
def test_names_may_be_in_any_script(store: ObjectStore, name: str) -> None:
    key = object_key("job_1", 1, name)
    store.put(key, b"picture", "image/png")
    assert store.get(key) == b"picture"
    assert keys(store, job_prefix("job_1")) == [key]


def test_names_that_look_the_same_are_not(store: ObjectStore) -> None:
    """A store that takes them for each other must compare a new name with all that are there."""
    composed, decomposed = (unicodedata.normalize(form, "a/é") for form in ("NFC", "NFD"))
    store.put(composed, b"composed", TEXT)
    assert store.head(decomposed) is None
    store.put(decomposed, b"decomposed", TEXT)
    assert keys(store, "a/") == [decomposed, composed]
    assert store.get(composed) == b"composed"


def test_delete_takes_some_leaves_others_and_minds_no_missing_ones(store: ObjectStore) -> None:
    for name in ("a/1", "a/2", "a/3"):
        store.put(name, b"x", TEXT)
    store.delete(["a/1", "a/3", "a/never"])
    store.delete([])
    assert keys(store, "a/") == ["a/2"]


def test_deleting_a_job_leaves_the_job_whose_id_is_longer(store: ObjectStore) -> None:
    for job_id in ("job_1", "job_10"):
        store.put(input_key(job_id), b"{}", "application/json")
        store.put(object_key(job_id, 1, "out.txt"), b"x", TEXT)
    store.delete_prefix(job_prefix("job_1"))
    assert keys(store, job_prefix("job_1")) == []
    assert len(keys(store, job_prefix("job_10"))) == 2
    store.delete_prefix(job_prefix("job_nobody"))


def test_a_list_is_in_the_order_of_bytes_and_goes_on_after_a_key(store: ObjectStore) -> None:
    names = ["p/a-b", "p/a.b", "p/a/1", "p/a0", "p/b/c/d", "p/한"]
    for name in reversed(names):
        store.put(name, b"x", TEXT)
    store.put("q/other", b"x", TEXT)
    assert keys(store, "p/") == names
    assert keys(store, "p/", limit=2) == names[:2]
    assert keys(store, "p/", after="p/a.b", limit=3) == names[2:5]
    assert keys(store, "p/", after="p/a/0") == names[2:]
    assert keys(store, "p/", after="p/한") == []


def test_a_list_longer_than_one_answer_is_whole(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.objects.s3.PAGE_OBJECTS", 3)
    names = [f"many/{number:02}" for number in range(10)]
    for name in names:
        store.put(name, b"x", TEXT)
    assert keys(store, "many/") == names
    assert keys(store, "many/", limit=7) == names[:7]
    store.delete_prefix("many/")
    assert keys(store, "many/") == []


def test_a_list_says_size_and_age(store: ObjectStore) -> None:
    store.put("a/b", b"12345", TEXT)
    (entry,) = store.list("a/", None, 10)
    assert entry.bytes == 5
    assert abs(entry.modified_at - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/.", "a\\b", "a\nb", "a\x00", "한" * 400]
)
def test_a_key_that_is_none_is_refused_everywhere(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="no object key"):
        store.put(key, b"x", TEXT)
    with pytest.raises(ValueError, match="no object key"):
        store.get(key)
    with pytest.raises(ValueError, match="no object key"):
        store.head(key)
    with pytest.raises(ValueError, match="no object key"):
        store.delete([key])
    with pytest.raises(ValueError, match="no object key"):
        store.presign_get(key, expires_seconds=1, content_type=TEXT)
    with pytest.raises(ValueError, match="no object key"):
        store.presign_put(key, content_length=1, content_type=TEXT, expires_seconds=1)


@pytest.mark.parametrize("prefix", ["", "/", "jobs/job_1", "../"])
def test_a_prefix_that_would_delete_too_much_is_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(ValueError, match=r"no (prefix|object key)"):
        store.delete_prefix(prefix)


def test_a_result_never_lands_on_another(store: ObjectStore) -> None:
    first, second = (object_key("job_1", 2, "out.png") for _ in range(2))
    assert first != second
    assert first.startswith("jobs/job_1/2-")
    store.put(first, b"first", "image/png")
    store.put(second, b"second", "image/png")
    assert store.get(first) == b"first"


def test_a_name_cannot_leave_its_job() -> None:
    with pytest.raises(ValueError, match="no object key"):
        object_key("job_1", 1, "../../job_2/out.png")


def test_addresses_name_key_type_and_file(store: ObjectStore) -> None:
    url = store.presign_get("a/b.png", expires_seconds=60, content_type="image/png", filename="고양이.png")
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
    assert "a/b.png" in url
    assert query["response-content-type"] == "image/png"
    assert query["response-content-disposition"] == "inline; filename*=UTF-8''%EA%B3%A0%EC%96%91%EC%9D%B4.png"
    assert "content-length" in store.presign_put("a/b", content_length=3, content_type=TEXT, expires_seconds=60)


@pytest.mark.parametrize("content_type", [TEXT, "text/html", "image/svg+xml", "application/json"])
def test_only_pictures_are_shown_by_a_browser(store: ObjectStore, content_type: str) -> None:
    url = store.presign_get("a/b", expires_seconds=60, content_type=content_type, filename="b")
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
    assert query["response-content-disposition"] == "attachment; filename*=UTF-8''b"


def test_a_store_that_answers_passes_the_check(store: ObjectStore) -> None:
    store.check()
    store.ensure_bucket()
    store.check()


def follow(url: str, content: bytes | None = None, content_type: str = TEXT) -> tuple[int, bytes, str | None]:
    headers = {} if content is None else {"Content-Type": content_type}
    request = urllib.request.Request(url, content, headers, method="GET" if content is None else "PUT")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), None


def test_a_download_address_works_without_a_key_for_its_object_only(s3_store: S3ObjectStore) -> None:
    s3_store.put("a/b", b"picture", "application/octet-stream")
    s3_store.put("a/c", b"secret", TEXT)
    url = s3_store.presign_get("a/b", expires_seconds=60, content_type="image/png", filename="b.png")
    assert follow(url) == (200, b"picture", "image/png")
    assert follow(url.replace("/a/b", "/a/c"))[0] == 403
    assert follow(url.replace("image%2Fpng", "text%2Fhtml"))[0] == 403


def test_an_address_ends_when_it_said_so(s3_store: S3ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_store.put("a/b", b"picture", TEXT)
    earlier = time.time() - 60
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: earlier)
        ended, lasts = (s3_store.presign_get("a/b", expires_seconds=n, content_type=TEXT) for n in (50, 600))
    assert follow(ended)[0] in {400, 403}  # servers differ
    assert follow(lasts)[0] == 200


def test_an_upload_address_takes_exactly_what_was_announced(s3_store: S3ObjectStore) -> None:
    url = s3_store.presign_put("up/1", content_length=3, content_type="image/png", expires_seconds=60)
    assert follow(url, b"four", "image/png")[0] == 403
    assert follow(url, b"abc", "text/html")[0] == 403
    assert s3_store.head("up/1") is None
    assert follow(url, b"abc", "image/png")[0] == 200
    assert s3_store.get("up/1") == b"abc"


def test_addresses_point_to_the_public_endpoint(s3_store: S3ObjectStore, door: Door) -> None:
    s3_store.check()
    store = door.open(public_endpoint="https://files.example.com")
    assert store.presign_get("a", expires_seconds=60, content_type=TEXT).startswith(
        "https://files.example.com/stoker/a?"
    )
    store.check()
    store.close()


def test_a_clock_that_is_an_hour_late_is_a_fault(s3_store: S3ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    late = time.time() - 3600
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: late)
        with pytest.raises(ObjectStoreFaultError):
            s3_store.put("a/b", b"late", TEXT)
    s3_store.put("a/b", b"right", TEXT)
    assert s3_store.get("a/b") == b"right"


def test_a_missing_bucket_fails_the_check_until_it_is_made(door: Door) -> None:
    store = door.open(bucket=f"another-{secrets.token_hex(4)}")
    with pytest.raises(ObjectStoreFaultError):
        store.check()
    with pytest.raises(ObjectStoreFaultError):
        store.put("a", b"x", TEXT)
    store.ensure_bucket()
    store.check()
    store.put("a", b"x", TEXT)
    store.close()


PIECE = bytes(range(256)) * (PART_BYTES // 256)


def written(store: ObjectStore, *pieces: bytes) -> Written:
    writer = ObjectWriter(store, "a/large", TEXT)
    for piece in pieces:
        if writer.add(piece):
            writer.flush()
    return writer.finish()


@pytest.mark.parametrize(
    "pieces",
    [(), (b"few",), (PIECE,), (PIECE, b"and ", b"more"), (PIECE, PIECE, PIECE[:1])],
    ids=["nothing", "a few bytes", "one part", "a part and more", "three parts"],
)
def test_a_writer_makes_one_object_of_its_pieces(store: ObjectStore, pieces: tuple[bytes, ...]) -> None:
    content = b"".join(pieces)
    assert written(store, *pieces) == Written(len(content), hashlib.sha256(content).hexdigest())
    assert store.get("a/large") == content
    assert store.abort_uploads("a/", time.time() + 60) == 0


def test_an_upload_is_seen_when_it_is_whole_and_not_before(store: ObjectStore) -> None:
    writer = ObjectWriter(store, "a/large", TEXT)
    writer.add(PIECE)
    writer.flush()
    assert keys(store, "a/") == []
    assert store.head("a/large") is None
    writer.finish()
    assert keys(store, "a/") == ["a/large"]


def test_an_aborted_upload_leaves_nothing(store: ObjectStore) -> None:
    upload = store.open_upload("a/large", TEXT)
    upload.add(PIECE)
    upload.abort()
    upload.abort()
    assert store.abort_uploads("a/", time.time() + 60) == 0
    assert keys(store, "a/") == []
    with pytest.raises(ObjectStoreFaultError):
        upload.finish()


def test_an_upload_that_was_given_up_is_forgotten_once_it_is_old(store: ObjectStore) -> None:
    lost, other = store.open_upload("a/large", TEXT), store.open_upload("b/large", TEXT)
    lost.add(PIECE)
    assert store.abort_uploads("a/", time.time() - 60) == 0
    assert store.abort_uploads("a/", time.time() + 60) == 1
    assert store.abort_uploads("a/", time.time() + 60) == 0
    with pytest.raises(ObjectStoreFaultError):
        lost.finish()
    other.add(b"the last part may be small")
    other.finish()
    assert store.get("b/large") == b"the last part may be small"


def test_a_large_object_is_read_piece_by_piece(store: ObjectStore) -> None:
    store.put("a/large", PIECE + b"end", TEXT)
    reader = store.open_read("a/large")
    pieces = list(iter(lambda: reader.read(2**20), b""))
    reader.close()
    assert b"".join(pieces) == PIECE + b"end"
    assert max(map(len, pieces)) <= 2**20


def test_a_reader_may_stop_early(store: ObjectStore) -> None:
    store.put("a/large", PIECE, TEXT)
    reader = store.open_read("a/large")
    assert reader.read(7) == PIECE[:7]
    reader.close()
    assert store.get("a/large") == PIECE


def test_a_missing_object_is_not_opened(store: ObjectStore) -> None:
    with pytest.raises(NotFoundError):
        store.open_read("a/missing")
