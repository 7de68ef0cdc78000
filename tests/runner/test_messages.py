"""The frame codec alone: no process."""

from __future__ import annotations

import json

import pytest

from cvx.backend.runner import messages
from cvx.errors import ProtocolError


def body_of(frame: bytes) -> bytes:
    (body,) = messages.FrameReader(1 << 20).feed(frame)
    return body


def test_frames_arrive_in_any_pieces() -> None:
    frames = [messages.frame([b'["m",%d,0]' % n]) for n in range(20)]
    stream = b"".join(frames)
    for step in (1, 3, 7, len(stream)):
        reader = messages.FrameReader(1 << 20)
        found = [body for at in range(0, len(stream), step) for body in reader.feed(stream[at : at + step])]
        assert found == [b'["m",%d,0]' % n for n in range(20)]


def test_a_frame_over_the_limit_is_refused() -> None:
    with pytest.raises(ProtocolError) as caught:
        list(messages.FrameReader(100).feed((101).to_bytes(4, "little") + b"x"))
    assert caught.value.code == "RunnerFrameTooLarge"


def test_each_message_takes_its_own_payload_lines() -> None:
    frame = messages.frame(
        [
            b'["s",1,["1.0/get",[0,8,1],[1,64,0]],0]',
            b'{"id":"a"}',
            b'{"query":1}',
            b'["d",2,0.5,3,["A"],[[0,3,true]],[["LOG",["hi"],false,5.0]],0]',
            b'"value"',
            b'["d",3,0.5,0,0,0,0,["Uncaught E","","user",1,0]]',
            b'{"data":1}',
            b'["c","key","a.js",["a.js"]]',
            b'["s",4,["1.0/get"],0,["1.0/remove","1.0/replace"]]',
            b"{}",
            b"[]",
            b"5",
            b'["d",5,0.5,0,0,0,0,0,["1.0/remove"]]',
            b"{}",
            b"null",
        ]
    )
    found = list(messages.decode(body_of(frame)))
    kinds = [type(message).__name__ for message, _ in found]
    assert kinds == ["SyscallsIssued", "Done", "Done", "ClosureKnown", "SyscallsIssued", "Done"]
    assert found[4][1] == [b"{}", b"[]", b"5"] and found[5][1] == [b"{}", b"null"]
    assert found[0][1] == [b'{"id":"a"}', b'{"query":1}']
    done = found[1][0]
    assert isinstance(done, messages.Done)
    assert (done.observed, done.env_read, done.closed) == (3, ["A"], [(0, 3, True)])
    assert found[1][1] == [b'"value"'] and found[2][1] == [b'{"data":1}']


NO_SUCH_KIND = b'["d",3,0.5,0,0,0,0,["Uncaught E","","novel",0,0]]'


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'["x",1]',
        b'["d",1]',
        b'["s",1,[5],0]',
        b'["s",1,["1.0/get"],0]',
        b"[" * 5000,
        NO_SUCH_KIND,
    ],
)
def test_nonsense_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        list(messages.decode(line))
    assert caught.value.code == "RunnerFrameMalformed"


def test_payloads_stay_one_line_and_keep_their_meaning() -> None:
    pretty = json.dumps({"a": [1, {"b": "line\nbreak"}]}, indent=2).encode()
    text = messages.results_message(7, [0, ("failed\n", 1), {"p": 1, "d": 1}], [pretty, b"{\n}", b'{"n":1}'])
    header, *payload = text.split(b"\n")
    assert json.loads(header) == ["results", 7, [0, ["failed\n", 1], {"p": 1, "d": 1}]]
    assert json.loads(payload[0]) == json.loads(pretty)
    assert len(payload) == 3


def test_sources_travel_whole() -> None:
    source = 'const a = "é\u2028";\nconst b = `\n`;'
    text = messages.source_message("sha", "a.js", source.encode(), b'{\n"version":3}')
    header, line, source_map = text.split(b"\n")
    assert json.loads(header) == ["source", "sha", "a.js", True]
    assert json.loads(line) == source
    assert json.loads(source_map) == {"version": 3}
