"""The table of allowed transitions of a batch, and what a request for one may say."""

import pytest
from pydantic import ValidationError

from schemas.batches import BATCH_ENDS, BATCH_TRANSITIONS, BatchRequest, BatchStatus, window_seconds

ASKED = {"input_file_id": "file_1", "endpoint": "/v1/embeddings", "completion_window": "24h"}


def test_every_status_has_its_followers_and_can_end() -> None:
    assert set(BATCH_TRANSITIONS) == set(BatchStatus)
    assert {"completed", "failed", "cancelled", "expired"} == BATCH_ENDS
    reached, frontier = set[BatchStatus](), {BatchStatus.VALIDATING}
    while frontier:
        reached |= frontier
        frontier = {after for before in frontier for after in BATCH_TRANSITIONS[before]} - reached
    assert reached == set(BatchStatus)


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86_400), ("1m", 60), ("7d", 604_800), ("168h", 604_800), ("10080m", 604_800)]
)
def test_a_window_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert window_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "0h", "8d", "169h", "1s", "-1h", "1.5h", " 1h", "99999h"])
def test_what_is_no_window_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValidationError, match="such as '24h'"):
        BatchRequest.model_validate({**ASKED, "completion_window": text})


@pytest.mark.parametrize(
    "metadata", [{str(n): "x" for n in range(17)}, {"": "x"}, {"k" * 65: "x"}, {"k": "x" * 513}, {"k": 1}]
)
def test_metadata_is_sixteen_short_pairs(metadata: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        BatchRequest.model_validate({**ASKED, "metadata": metadata})


def test_the_official_client_s_request_is_one() -> None:
    asked = BatchRequest.model_validate({**ASKED, "metadata": {"k": "v"}})
    assert (asked.endpoint, asked.metadata) == ("/v1/embeddings", {"k": "v"})
