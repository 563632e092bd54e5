"""Events in their envelope."""

import json

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Envelope, EventType

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.builds(
        Envelope,
        attempt=st.integers(1, 1000),
        seq=st.integers(0, 10**9),
        type=st.sampled_from(EventType),
        at=st.floats(0, 1e10),
        data=st.dictionaries(TEXT, VALUES, max_size=3),
    )
)
def test_an_envelope_survives_its_line_of_json(envelope: Envelope) -> None:
    line = envelope.to_json()
    assert b"\n" not in line
    assert Envelope.from_json(line) == envelope
    assert Envelope.from_json(line).to_json() is line
    assert json.loads(line)["type"] == envelope.type.value


def test_half_a_surrogate_pair_does_not_stop_an_event() -> None:
    envelope = Envelope(1, 2, EventType.TOKEN, 0.0, {"text": "a\ud83d\ude00b"})
    assert Envelope.from_json(envelope.to_json()).data["text"].endswith("b")


def test_a_reader_resumes_from_attempt_and_number() -> None:
    assert Envelope(3, 14, EventType.TOKEN, 0.0, {}).id == "3-14"
