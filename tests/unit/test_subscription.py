"""What Redis says to those who listen, read from pieces of any size."""

import pytest
from redis.exceptions import InvalidResponse

from storage.subscription import split_messages

SAID = (
    b"*3\r\n$9\r\nsubscribe\r\n$12\r\nstoker:bell\xc3\r\n:1\r\n"
    b"*3\r\n$7\r\nmessage\r\n$11\r\nstoker:bell\r\n$11\r\n*3\r\n$1\r\nx\r\n\r\n"
    b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$0\r\n\r\n"
    b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
)
MEANT = [
    (b"subscribe", b"stoker:bell\xc3", b"1"),
    (b"message", b"stoker:bell", b"*3\r\n$1\r\nx\r\n"),
    (b"message", b"a", b""),
    (b"pong", b"", b""),
]


def test_messages_that_come_together_are_told_apart() -> None:
    assert split_messages(SAID) == (MEANT, b"")
    assert split_messages(b"") == ([], b"")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 64])
def test_a_message_is_read_once_it_is_whole(size: int) -> None:
    read, rest = [], b""
    for begin in range(0, len(SAID), size):
        messages, rest = split_messages(rest + SAID[begin : begin + size])
        read += messages
    assert (read, rest) == (MEANT, b"")


@pytest.mark.parametrize("said", [b"-ERR max number of clients reached\r\n", b"+PONG\r\n", b"HTTP/1.1 400\r\n"])
def test_what_is_no_message_ends_the_conversation(said: bytes) -> None:
    with pytest.raises(InvalidResponse):
        split_messages(SAID + said)
