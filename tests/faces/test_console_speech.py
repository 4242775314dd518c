"""Which characters are written: pure, so every order of things can be tried."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.cli.speech import Speech, Told, Words


class Page:
    """What was written, as somebody who reads a pipe has it."""

    def __init__(self) -> None:
        self.speech = Speech()
        self.text = ""
        self.anew = 0

    def write(self, words: Words) -> None:
        if words.anew:
            self.anew += 1
            self.text += "\n"
        self.text += words.text

    def say(self, message_id: str, *pieces: str, turn: int = 1) -> None:
        self.speech.start(message_id, turn)
        for piece in pieces:
            self.write(self.speech.hear(message_id, piece))

    def finish(self, message_id: str, text: str, *, superseded: bool = False) -> None:
        self.write(self.speech.finish(message_id, text, superseded=superseded))


def test_pieces_are_written_as_they_come() -> None:
    page = Page()
    page.say("a", "one ", "two")
    assert page.text == "one two"
    page.finish("a", "one two")
    page.say("b", " three", turn=2)
    page.write(page.speech.end())
    assert (page.text, page.anew) == ("one two three", 0)


def test_of_two_that_speak_at_once_the_second_waits_for_the_first() -> None:
    page = Page()
    page.say("a", "a1 ")
    page.say("b", "b1 ")
    page.say("a", "a2 ")
    assert page.text == "a1 a2 "
    page.finish("b", "b1 b2 ")
    assert page.text == "a1 a2 "
    page.finish("a", "a1 a2 a3 ")
    assert page.text == "a1 a2 a3 b1 b2 "


def test_what_was_whole_before_a_take_over_is_said_again_too() -> None:
    page = Page()
    page.say("a", "kept ", turn=1)
    page.finish("a", "kept ")
    page.say("b", "second ", turn=2)
    page.finish("b", "second ")
    page.say("c", "thi", turn=3)
    page.finish("c", "thi", superseded=True)
    page.speech.supersede(from_turn=1)
    page.say("d", "second ", turn=2)
    page.finish("d", "second ")
    page.say("e", "third", turn=3)
    page.finish("e", "third")
    page.write(page.speech.end())
    assert (page.text, page.anew) == ("kept second third", 0)


def test_an_answer_that_becomes_another_one_begins_anew() -> None:
    page = Page()
    page.say("a", "The sky is b")
    page.finish("a", "The sky is b", superseded=True)
    page.say("b", "The sky ", "was grey")
    assert (page.text, page.anew) == ("The sky is b\nThe sky was grey", 1)


def test_an_answer_that_becomes_shorter_is_written_anew_at_its_end() -> None:
    page = Page()
    page.say("a", "yes indeed")
    page.finish("a", "yes indeed", superseded=True)
    page.say("b", "yes")
    page.finish("b", "yes")
    assert page.text == "yes indeed"
    page.write(page.speech.end())
    assert (page.text, page.anew) == ("yes indeed\nyes", 1)


def test_a_snapshot_that_knows_more_is_caught_up_with() -> None:
    page = Page()
    page.say("a", "one ", "two ")
    page.write(page.speech.restate([Told("a", "one two three ", 1, whole=False)]))
    page.say("a", "four")
    page.finish("a", "one two three four")
    page.write(page.speech.end())
    assert (page.text, page.anew) == ("one two three four", 0)


def test_a_snapshot_that_knows_less_is_waited_for() -> None:
    page = Page()
    page.say("a", "one ", "two ")
    page.write(page.speech.restate([Told("b", "one", 1, whole=False)]))
    assert page.text == "one two "
    page.say("b", " two three")
    page.write(page.speech.end())
    assert (page.text, page.anew) == ("one two three", 0)


def test_a_snapshot_in_the_middle_of_saying_again_repeats_nothing() -> None:
    page = Page()
    page.say("a", "one two three ")
    page.finish("a", "one two three ", superseded=True)
    page.say("b", "one ")
    page.write(page.speech.restate([Told("b", "one two ", 1, whole=False)]))
    page.say("b", "three four")
    page.write(page.speech.end())
    assert (page.text, page.anew) == ("one two three four", 0)


@given(
    answer=st.text(alphabet="ab\n", min_size=1, max_size=30),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5),
)
def test_however_often_it_is_cut_off_the_answer_is_there_once(
    answer: str, cuts: list[int], sizes: list[int]
) -> None:
    page = Page()
    for number, cut in enumerate([*cuts, len(answer)]):
        said = answer[:cut]
        page.say(f"m{number}", *pieces(said, sizes))
        page.finish(f"m{number}", said, superseded=number < len(cuts))
    page.write(page.speech.end())
    assert (page.text, page.anew) == (answer, 0)


@given(
    first=st.text(alphabet="ab", max_size=12),
    second=st.text(alphabet="ab", max_size=12),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
)
def test_whatever_it_becomes_the_last_line_is_the_whole_answer(
    first: str, second: str, sizes: list[int]
) -> None:
    page = Page()
    page.say("a", *pieces(first, sizes))
    page.finish("a", first, superseded=True)
    page.say("b", *pieces(second, sizes))
    page.finish("b", second)
    page.write(page.speech.end())
    assert page.text.split("\n")[-1] == second
    assert page.anew == (not second.startswith(first))


def pieces(text: str, sizes: list[int]) -> list[str]:
    found = []
    place = 0
    while text:
        size = sizes[place % len(sizes)]
        found.append(text[:size])
        text, place = text[size:], place + 1
    return found
