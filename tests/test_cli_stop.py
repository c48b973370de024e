"""--stop: the text before the first complete stop text is printed, and no part of a stop text is."""

from conftest import GREEDY, PROMPT


def test_stop_text_ends_the_output_and_is_not_printed(stories):
    whole = stories.generate(*PROMPT, "-n", "120", *GREEDY, "--no-echo").ok().out.removesuffix("\n")
    for stop in (",", " lived", "little girl", "e", ". Maya", "long. One day, Maya", "\n", "aya"):
        assert stop in whole, f"choose another stop text than {stop!r}: {whole!r}"
        seen = stories.generate(*PROMPT, "-n", "120", *GREEDY, "--no-echo", "--json", "--stop", stop).ok().json
        expected = whole[: whole.index(stop)]
        assert (seen["text"], seen["finish_reason"]) == (expected, "stop"), f"stop {stop!r}"
        plain = stories.generate(*PROMPT, "-n", "120", *GREEDY, "--no-echo", "--stop", stop).ok().out
        assert plain == expected + "\n", f"stop {stop!r}"


def test_stop_text_that_never_comes_changes_nothing(stories):
    whole = stories.generate(*PROMPT, "-n", "60", *GREEDY).ok().bytes
    for stop in ("no such text", "Once upon a", "girl named Mayo", "x" * 5000):
        assert stories.generate(*PROMPT, "-n", "60", *GREEDY, "--stop", stop).ok().bytes == whole, stop


def test_stop_text_spans_tokens(chain):
    model = chain([b"one", b" tw", b"o t", b"hree", b" four"])
    assert model.generate("-i", "", *GREEDY, "--stop", "two three").ok().out == "one \n"


def test_stop_text_inside_one_token(chain):
    model = chain([b"one", b" two,three", b" four"])
    assert model.generate("-i", "", *GREEDY, "--stop", ",").ok().out == "one two\n"


def test_first_letters_of_a_stop_text_are_printed_when_the_rest_does_not_come(chain):
    model = chain([b"a", b"ab", b"abc", b"ac"])
    assert model.generate("-i", "", *GREEDY, "--stop", "abcd").ok().out == "aababcac\n"


def test_held_back_letters_are_printed_at_the_end(chain):
    model = chain([b"one", b" tw"])
    assert model.generate("-i", "", *GREEDY, "--stop", "two").ok().out == "one tw\n"
    assert model.generate("-i", "", *GREEDY, "-n", "1", "--stop", "e two").ok().out == "one\n"


def test_stop_text_that_overlaps_itself(chain):
    model = chain([b"an", b"ana", b"nas", b"!"])  # anananas!
    assert model.generate("-i", "", *GREEDY, "--stop", "ananas").ok().out == "an\n"
    model = chain([b"a", b"aa", b"aab", b"!"], "another")  # aaaaab!
    assert model.generate("-i", "", *GREEDY, "--stop", "aab").ok().out == "aaa\n"


def test_of_several_stop_texts_the_one_complete_first_counts(chain):
    model = chain([b"was", b" a", b" lit", b"tle", b" girl", b" named"])
    stops = ("--stop", "was a little girl", "--stop", "little", "--stop", "named")
    assert model.generate("-i", "", *GREEDY, *stops).ok().out == "was a \n"
    assert model.generate("-i", "", *GREEDY, "--stop", "zzz", "--stop", "girl").ok().out == "was a little \n"


def test_of_stop_texts_complete_with_one_token_the_earliest_counts(chain):
    model = chain([b"one", b" two three four", b"!"])
    for stops in (("three", "two"), ("two", "three"), ("two three", "three"), ("three", "two three")):
        args = [part for stop in stops for part in ("--stop", stop)]
        assert model.generate("-i", "", *GREEDY, *args).ok().out == "one \n", stops


def test_stop_text_may_be_one_character_of_byte_tokens(chain):
    model = chain([b"caf", b"\xc3", b"\xa9", b" au", b" lait"])
    assert model.generate("-i", "", *GREEDY, "--stop", "é").ok().out == "caf\n"
    assert model.generate("-i", "", *GREEDY, "--stop", "fé a").ok().out == "ca\n"


def test_stop_text_in_the_prompt_does_not_stop(stories):
    seen = stories.generate(*PROMPT, "-n", "10", *GREEDY, "--stop", "upon", "--json").ok().json
    assert seen["completion_tokens"] == 10
