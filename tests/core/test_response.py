from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_kubit_braze.core.response import Next, Verdict, read_answer

NOTHING_VALID = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."


def answer(status: int, body: Any, sent: int = 3) -> Verdict:
    return read_answer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), sent)


def error(index: Any, words: Any = "no", **more: Any) -> dict[str, Any]:
    return {"type": words, "input_array": "attributes", "index": index, **more}


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"message": "success", "attributes_processed": 3}, id="counted"),
        pytest.param({"message": "success"}, id="without a counter"),
        pytest.param({"message": "success", "errors": []}, id="no errors"),
        pytest.param({"message": "success", "errors": None}, id="null errors"),
    ],
)
def test_success_accepts_every_object(status: int, body: dict[str, Any]) -> None:
    verdict = answer(status, body)

    assert verdict.next is Next.DONE
    assert verdict.applied
    assert not verdict.unknown
    assert verdict.rejected == {}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"message": "queued"}, id="another message"),
        pytest.param({"message": "Success"}, id="another case"),
        pytest.param({"attributes_processed": 3}, id="no message"),
        pytest.param({"message": True}, id="a message that is no text"),
        pytest.param(["success"], id="a list"),
        pytest.param(b'{"message":"succ', id="cut off"),
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>success</html>", id="a web page"),
        pytest.param(b'{"message":"success"}\xff', id="bytes that are no text"),
    ],
)
def test_a_2xx_without_the_word_success_is_uncertain(body: Any) -> None:
    verdict = answer(201, body)

    assert verdict.next is Next.DONE
    assert verdict.unknown
    assert verdict.applied
    assert verdict.rejected == {}


def test_errors_are_given_to_the_object_at_their_index() -> None:
    verdict = answer(201, {"message": "success", "errors": [error(2, "bad email"), error(0, "no id")]})

    assert verdict.rejected == {2: "bad email", 0: "no id"}
    assert not verdict.unknown


def test_several_errors_of_one_object_are_one_rejection() -> None:
    verdict = answer(201, {"message": "success", "errors": [error(1, "first"), error(1, "second")]})

    assert verdict.rejected == {1: "first; second"}
    assert not verdict.unknown


def test_bulk_answers_do_not_name_the_array() -> None:
    verdict = answer(201, {"message": "success", "errors": [{"type": "no", "index": 1}]})

    assert verdict.rejected == {1: "no"}
    assert not verdict.unknown


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        pytest.param({"index": 0, "type": "t", "message": "m"}, "t", id="type first"),
        pytest.param({"index": 0, "message": "m"}, "m", id="message else"),
        pytest.param({"index": 0, "type": ""}, "refused without a reason", id="neither"),
        pytest.param({"index": 0, "type": 7}, "7", id="no text"),
    ],
)
def test_a_rejection_keeps_brazes_words(entry: dict[str, Any], words: str) -> None:
    assert answer(201, {"message": "success", "errors": [entry]}).rejected == {0: words}


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"type": "no", "input_array": "attributes"}, id="no index"),
        pytest.param(error(3), id="one beyond the last"),
        pytest.param(error(-1), id="negative"),
        pytest.param(error(True), id="a boolean"),
        pytest.param(error("1"), id="a text"),
        pytest.param(error(1.0), id="a float"),
        pytest.param(error(1, input_array="events"), id="another array"),
        pytest.param("no", id="a bare text"),
        pytest.param(None, id="null"),
    ],
)
def test_an_error_that_fits_no_object_makes_the_others_uncertain(entry: Any) -> None:
    verdict = answer(201, {"message": "success", "errors": [error(2, "yes"), entry]})

    assert verdict.unknown
    assert verdict.rejected == {2: "yes"}


@pytest.mark.parametrize("errors", [{"0": "no"}, "no", 1, True])
def test_errors_that_are_no_list_make_everything_uncertain(errors: Any) -> None:
    verdict = answer(201, {"message": "success", "errors": errors})

    assert verdict.unknown
    assert verdict.rejected == {}


@pytest.mark.parametrize(
    ("processed", "errors", "unknown"),
    [
        pytest.param(2, [error(0)], False, id="the errors explain it"),
        pytest.param(2, [], True, id="one is missing without an error"),
        pytest.param(0, [], True, id="none was processed"),
        pytest.param(1, [error(0)], True, id="one more is missing than the errors say"),
        pytest.param(3, [error(0)], False, id="one more than expected"),
        pytest.param("2", [], False, id="not a number"),
    ],
)
def test_fewer_processed_than_the_errors_explain_is_uncertain(
    processed: Any, errors: list[Any], unknown: bool
) -> None:
    body = {"message": "success", "attributes_processed": processed, "errors": errors}

    assert answer(201, body).unknown is unknown


@pytest.mark.parametrize(
    ("status", "applied"),
    [
        (408, True),
        (423, False),
        (425, False),
        (429, False),
        (500, True),
        (502, True),
        (503, True),
        (504, True),
        (599, True),
    ],
)
def test_what_may_pass_later_is_tried_again(status: int, applied: bool) -> None:
    verdict = answer(status, {"message": "later"})

    assert verdict.next is Next.RETRY
    assert verdict.applied is applied


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, Next.STOP_AUTH),
        (403, Next.STOP_AUTH),
        (301, Next.STOP_ENDPOINT),
        (307, Next.STOP_ENDPOINT),
        (404, Next.STOP_ENDPOINT),
        (405, Next.STOP_ENDPOINT),
        (402, Next.STOP_REQUEST),
        (415, Next.STOP_REQUEST),
        (422, Next.STOP_REQUEST),
    ],
)
def test_what_cannot_pass_later_stops(status: int, expected: Next) -> None:
    verdict = answer(status, {"message": "no"})

    assert verdict.next is expected
    assert not verdict.applied
    assert verdict.message == "no"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(400, {"message": "Max Input Length Exceeded"}, id="too many objects"),
        pytest.param(413, b"<html>Request Entity Too Large</html>", id="too many bytes"),
        pytest.param(400, {"message": NOTHING_VALID, "errors": [error(0), error(1)]}, id="one unexplained"),
        pytest.param(400, {"message": NOTHING_VALID, "errors": [error(0), error(1), error(9)]}, id="no fit"),
        pytest.param(400, {"message": "Bad Request", "errors": ["a", "b", "c"]}, id="errors as texts"),
    ],
)
def test_a_request_refused_as_a_whole_is_split(status: int, body: Any) -> None:
    verdict = answer(status, body)

    assert verdict.next is Next.SPLIT
    assert not verdict.applied
    assert verdict.rejected == {}


def test_a_single_object_refused_as_a_whole_is_rejected() -> None:
    verdict = answer(400, {"message": "Bad Request"}, sent=1)

    assert verdict.next is Next.DONE
    assert verdict.rejected == {0: "Bad Request"}
    assert not verdict.unknown
    assert not verdict.applied


def test_a_400_that_names_every_object_needs_no_split() -> None:
    verdict = answer(400, {"message": NOTHING_VALID, "errors": [error(i, f"no {i}") for i in range(3)]})

    assert verdict.next is Next.DONE
    assert verdict.rejected == {0: "no 0", 1: "no 1", 2: "no 2"}
    assert not verdict.applied


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b'{"message":"Rate limited"}', "Rate limited", id="Braze's message"),
        pytest.param(b"", "an empty answer", id="nothing"),
        pytest.param(b" <html> " + b"x" * 5000, "<html> " + "x" * 192, id="a web page is cut"),
        pytest.param(b"\xff\xfe", "\ufffd\ufffd", id="bytes that are no text"),
        pytest.param(b'{"error":"x"}', '{"error":"x"}', id="JSON without a message"),
        pytest.param(json.dumps({"message": "y" * 9000}).encode(), "y" * 500, id="a long message is cut"),
    ],
)
def test_the_message_is_short_and_never_empty(body: bytes, message: str) -> None:
    assert read_answer(503, body, 1).message == message
