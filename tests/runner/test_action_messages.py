"""The frames between the backend and a child that runs actions: bytes in, messages and parts of streams out."""

from __future__ import annotations

import random
from itertools import pairwise

import msgspec
import pytest

from cvx.backend.runner import action_messages as messages
from cvx.backend.runner.messages import FrameReader, Hello, frame
from cvx.errors import ProtocolError


def sent(*texts: bytes) -> bytes:
    return frame(texts)


def read(data: bytes, *cuts: int) -> list[tuple[object, list[bytes]]]:
    splitter = FrameReader(1 << 20)
    edges = [0, *cuts, len(data)]
    bodies = [body for at, to in pairwise(edges) for body in splitter.feed(data[at:to])]
    return [item for body in bodies for item in messages.decode(body)]


CONVERSATION = b"".join(
    (
        sent(b'["hello",1]'),
        sent(
            b'["ask",1,1,"1.0/actions/query"]', b'{"a":"\xc3\xa9"}', b'["log",1,"LOG",["x"],false,1.5,null]'
        ),
        messages.part_frame(7, b"\x00\n\xff raw \n\n"),
        messages.part_frame(7, b""),
        sent(b'["end",7]', b'["d",1,2.5,100,0,1]', b'"value"'),
        sent(b'["d",2,1,100,["Uncaught Error: x","",  "user",1,0],1]', b'{"data":1}'),
        sent(b'["d",3,1,100,0,0]', b'["m",1,2,3]'),
    )
)


def test_a_conversation_arrives_whatever_way_it_is_cut() -> None:
    whole = read(CONVERSATION)
    assert whole[0] == (Hello(1), [])
    assert whole[1] == (messages.Asked(1, 1, "1.0/actions/query"), [b'{"a":"\xc3\xa9"}'])
    assert whole[3] == (messages.Part(7, b"\x00\n\xff raw \n\n"), [])
    assert whole[4] == (messages.Part(7, b""), [])
    ends = [(message.id, payload) for message, payload in whole if isinstance(message, messages.Ended)]
    assert ends == [(1, [b'"value"']), (2, [b'{"data":1}']), (3, [])]
    for at in range(1, len(CONVERSATION)):
        assert read(CONVERSATION, at) == whole, at
    chance = random.Random(7)
    for _ in range(200):
        cuts = sorted(chance.sample(range(1, len(CONVERSATION)), 12))
        assert read(CONVERSATION, *cuts) == whole, cuts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"\0abc",
        b"nonsense",
        b"[]",
        b'["ask",1,1,"x"]',
        b'["what",1]',
        b'["d",1,1,1,["x"],0]',
        b"\xff\xfe",
    ],
)
def test_nonsense_is_told_from_messages(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        list(messages.decode(body))
    assert caught.value.code == "RunnerFrameMalformed"


def test_a_frame_that_is_too_large_is_refused_before_it_is_there() -> None:
    with pytest.raises(ProtocolError) as caught:
        list(FrameReader(1000).feed((1001).to_bytes(4, "little")))
    assert caught.value.code == "RunnerFrameTooLarge"


def test_what_is_sent_holds_no_line_feed_of_its_own() -> None:
    texts = (
        messages.action_message((1, "key"), b'{\n"a":1}', b"{\n}"),
        messages.result_message(1, 2, b'{"a":\n1}'),
        messages.failure_message(1, 2, "two\nlines", b"{\n}"),
        messages.fail_message(3, "why\nnot"),
    )
    assert [text.count(b"\n") for text in texts] == [2, 1, 1, 0]
    for text in texts:
        for line in text.split(b"\n"):
            msgspec.json.decode(line)
