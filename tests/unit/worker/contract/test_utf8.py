"""Characters that a model cuts in two."""

from hypothesis import given
from hypothesis import strategies as st

from worker.contract.utf8 import SurrogateJoiner, clean


@given(st.lists(st.text()))
def test_whole_text_passes_unchanged(pieces: list[str]) -> None:
    joiner = SurrogateJoiner()
    assert "".join([joiner.join(piece) for piece in pieces]) + joiner.end() == "".join(pieces)


@given(st.lists(st.text(st.characters(codec=None)), max_size=8))
def test_whatever_comes_can_be_sent(pieces: list[str]) -> None:
    joiner = SurrogateJoiner()
    ("".join([joiner.join(piece) for piece in pieces]) + joiner.end()).encode()


def test_a_character_in_two_pieces_is_joined() -> None:
    joiner = SurrogateJoiner()
    assert joiner.join("a\ud83d") == "a"
    assert joiner.join("\ude00b") == "😀b"


def test_half_a_character_at_the_end_is_replaced() -> None:
    joiner = SurrogateJoiner()
    joiner.join("\ud83d")
    assert joiner.end() == "\ufffd"
    assert clean("\udc00x") == "\ufffdx"
