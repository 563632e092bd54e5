"""The servers that the tests stand on are real, restart on their data, and die when asked to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
import redis
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from tests.services import PostgresServer, S3Server, run_redis, run_s3


def test_redis_keeps_its_data_over_stop_and_restart(tmp_path: Path) -> None:
    with run_redis(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        client.set("name", "stoker")
        server.restart()
        assert client.get("name") == b"stoker"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_killed_redis_without_a_file_forgets(tmp_path: Path) -> None:
    with run_redis(tmp_path, append_only=False) as server, redis.Redis.from_url(server.url) as client:
        client.set("name", "stoker")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        assert client.get("name") is None


def test_a_paused_redis_answers_again_when_resumed(tmp_path: Path) -> None:
    with (
        run_redis(tmp_path) as server,
        redis.Redis.from_url(server.url, socket_timeout=0.3, retry=None) as client,
    ):
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


@pytest.fixture
def s3_client(s3_server: S3Server) -> Iterator[Any]:
    """A boto3 client of the shared server."""
    client = _s3_client(s3_server, s3_server.secret_key)
    yield client
    client.close()


def test_s3_stores_and_refuses_a_wrong_key(s3_server: S3Server, s3_client: Any) -> None:
    s3_client.put_object(Bucket=s3_server.bucket, Key="a/b", Body=b"bytes")
    assert s3_client.get_object(Bucket=s3_server.bucket, Key="a/b")["Body"].read() == b"bytes"
    with pytest.raises(ClientError, match=r"403|SignatureDoesNotMatch"):
        _s3_client(s3_server, "wrong").get_object(Bucket=s3_server.bucket, Key="a/b")


def test_a_killed_s3_comes_back_with_its_objects(tmp_path: Path) -> None:
    with run_s3(tmp_path) as server:
        client = _s3_client(server, server.secret_key)
        client.put_object(Bucket=server.bucket, Key="kept", Body=b"bytes")
        server.kill()
        with pytest.raises(EndpointConnectionError):
            client.get_object(Bucket=server.bucket, Key="kept")
        server.restart()
        assert client.get_object(Bucket=server.bucket, Key="kept")["Body"].read() == b"bytes"


def test_postgres_gives_each_asker_a_fresh_database(postgres_server: PostgresServer, postgres_url: str) -> None:
    another = postgres_server.new_database()
    assert another != postgres_url
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE only_here (id int)")
    with psycopg.connect(another.replace("+psycopg", "")) as connection:
        assert connection.execute("SELECT to_regclass('only_here')").fetchone() == (None,)


def _s3_client(server: S3Server, secret_key: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=secret_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"max_attempts": 1},
        ),
    )
