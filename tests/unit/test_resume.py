"""Whoever reads a job's events, however slowly, ends with the output that the job had."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Envelope, EventType
from storage.event_log.port import START, Position, follow_on, resume

KEPT = 12
SNAPSHOT_EVERY = 5


@dataclass
class Writer:
    """Writes attempts as workers do, into a log that keeps only the newest entries and may lose some."""

    attempt: int = 0
    seq: int = 0
    output: str = ""
    stored: list[Envelope] = field(default_factory=list)

    def begin(self) -> None:
        self.attempt, self.seq, self.output = self.attempt + 1, 0, ""
        self._store(EventType.STARTED if self.attempt == 1 else EventType.RESTARTED, "")

    def say(self, text: str, *, lost: bool) -> None:
        self.output += text
        self._store(EventType.TOKEN, text, lost=lost)
        if self.seq % SNAPSHOT_EVERY == SNAPSHOT_EVERY - 1:
            self.snapshot()

    def snapshot(self) -> None:
        self._store(EventType.SNAPSHOT, self.output)

    def _store(self, event_type: EventType, text: str, *, lost: bool = False) -> None:
        self.seq += 1
        if not lost:
            self.stored.append(Envelope(self.attempt, self.seq, event_type, 0.0, {"text": text}))
            del self.stored[:-KEPT]


@dataclass
class Reader:
    """Follows a log as a client does."""

    position: Position = START
    output: str = ""

    def read(self, stored: list[Envelope]) -> None:
        later = [envelope for envelope in stored if (envelope.attempt, envelope.seq) > self.position]
        self._take(resume(later, self.position))

    def hear(self, news: list[Envelope], stored: list[Envelope]) -> None:
        """Take what the bell said when nothing is missing before it; else look."""
        if heard := follow_on(news, self.position):
            self._take(heard)
        else:
            self.read(stored)

    def _take(self, envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            if envelope.type in {EventType.STARTED, EventType.RESTARTED}:
                self.output = ""
            elif envelope.type is EventType.SNAPSHOT:
                self.output = envelope.data["text"]
            else:
                self.output += envelope.data["text"]
            self.position = Position(envelope.attempt, envelope.seq)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from(["a", "b", "한"]), st.booleans()),
        st.tuples(st.just("say"), st.sampled_from(["a", "b", "한"]), st.just(value=False)),
        st.tuples(st.sampled_from(["read", "begin"]), st.just(""), st.just(value=False)),
    ),
    max_size=60,
)


@given(STEPS)
def test_every_reader_ends_with_the_writers_output(steps: list[tuple[str, str, bool]]) -> None:
    writer, reader = Writer(), Reader()
    writer.begin()
    for step, text, lost in steps:
        if step == "say":
            writer.say(text, lost=lost)
        elif step == "begin":
            writer.begin()
        else:
            reader.read(writer.stored)
    writer.snapshot()  # what was lost since the last one is made good
    reader.read(writer.stored)
    assert reader.output == writer.output
    late = Reader()
    late.read(writer.stored)
    assert late.output == writer.output


@given(STEPS)
def test_what_was_read_is_not_read_again_and_nothing_older(steps: list[tuple[str, str, bool]]) -> None:
    writer = Writer()
    writer.begin()
    for step, text, lost in steps:
        if step == "say":
            writer.say(text, lost=lost)
        elif step == "begin":
            writer.begin()
    for seen in writer.stored:
        position = Position(seen.attempt, seen.seq)
        later = [envelope for envelope in writer.stored if (envelope.attempt, envelope.seq) > position]
        read = resume(later, position)
        assert read == later[len(later) - len(read) :]
        assert bool(read) == bool(later)


@given(STEPS, st.sets(st.integers(0, 80)))
def test_who_hears_most_of_it_and_looks_for_the_rest_has_the_same(
    steps: list[tuple[str, str, bool]], unheard: set[int]
) -> None:
    writer, hearer, told, count = Writer(), Reader(), Position(0, 0), 0
    writer.begin()
    news: list[Envelope] = []
    for step, text, _ in [*steps, ("read", "", False)]:
        if step == "say":
            writer.say(text, lost=False)
        elif step == "begin":
            writer.begin()
        for envelope in writer.stored:
            if (envelope.attempt, envelope.seq) > told:
                told, count = Position(envelope.attempt, envelope.seq), count + 1
                news += [] if count in unheard else [envelope]
        if step == "read" and news:
            hearer.hear(news, writer.stored)
            news = []
    hearer.hear([], writer.stored)
    assert hearer.output == writer.output


def test_news_with_a_hole_make_a_reader_look() -> None:
    def event(attempt: int, seq: int) -> Envelope:
        return Envelope(attempt, seq, EventType.TOKEN, 0.0, {"text": "x"})

    at = Position(2, 5)
    assert follow_on([event(2, 4), event(2, 5), event(2, 6), event(2, 7)], at) == [event(2, 6), event(2, 7)]
    assert follow_on([event(1, 9), event(2, 6), event(1, 10)], at) == [event(2, 6)]
    assert follow_on([event(2, 6), event(3, 1), event(3, 2)], at) == [event(2, 6), event(3, 1), event(3, 2)]
    assert follow_on([event(1, 1)], START) == [event(1, 1)]
    for news in ([], [event(2, 5)], [event(2, 7)], [event(2, 6), event(2, 8)], [event(3, 2)], [event(1, 6)]):
        assert follow_on(news, at) == []
