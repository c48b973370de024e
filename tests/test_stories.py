"""The default model, models/stories.bin: the checks of scripts/stories/check.py on a few stories instead of 500, and the
grammar of its corpus."""

import json
import sys

import pytest
from conftest import GOLDEN_DIR, ROOT, SANITIZED, assert_refused, run

sys.path.insert(0, str(ROOT / "scripts" / "stories"))
import check  # noqa: E402
import corpus  # noqa: E402
import grammar  # noqa: E402

MODEL = ROOT / "models" / "stories.bin"
GOLDEN = json.loads((GOLDEN_DIR / "stories.json").read_text(encoding="utf-8"))
SEEDS = range(1, 4 if SANITIZED else 21)


@pytest.fixture(scope="module")
def told():
    """Stories from nothing, at the temperature that the model card gives figures for."""
    return [run(MODEL, *check.options(seed)).ok().json for seed in SEEDS]


@pytest.fixture(scope="module")
def grammar_stories():
    """Enough stories that every word of the grammar occurs."""
    return list(corpus.stories(corpus.SEED, 4000))


def assert_most(texts, good, what):
    """At most one in ten may fail; of 500 stories it would be one in twenty."""
    bad = [text for text in texts if not good(text)]
    assert len(bad) * 10 <= len(texts), f"{len(bad)} of {len(texts)} stories do not {what}; the first:\n{bad[0]}"


def test_stories_end_by_themselves(told):
    unfinished = [story["text"] for story in told if story["finish_reason"] != "stop"]
    assert not unfinished, f"{len(unfinished)} of {len(told)} stories have no end; the first:\n{unfinished[0]}"


def test_stories_keep_their_main_characters_name(told):
    assert_most([story["text"] for story in told], check.keeps_name, "keep their main character's name")


def test_stories_have_no_word_outside_the_corpus(told, grammar_stories):
    known = set().union(*map(check.words, grammar_stories))
    assert_most([story["text"] for story in told], lambda text: check.words(text) <= known, "keep to the words of the corpus")


def test_another_seed_is_another_story(told):
    assert len({story["text"] for story in told}) == len(told)


def test_greedy_story_has_the_same_bits_on_every_machine():
    done = run(MODEL, "-i", GOLDEN["prompt"], "-t", "0", "-n", "0", "--digest").ok()
    assert done.out == GOLDEN["text"], f"expected {GOLDEN['text']!r}\n{done}"
    assert done.digest == GOLDEN["digest"], (
        f"not the digest {GOLDEN['digest']} that was committed: a compiler, an option or a kernel set has changed the "
        f"order of arithmetic, or the model is another one (then: scripts/make_golden.py --stories RUN)\n{done}"
    )


def test_no_model_names_the_one_that_comes_along():
    assert_refused(run("-i", "Once"), 2, "models/stories.bin", "make demo")


def test_grammar_tells_distinct_stories_that_the_checker_accepts(grammar_stories):
    assert len(set(grammar_stories)) == 4000
    assert list(corpus.stories(corpus.SEED, 20)) == grammar_stories[:20], "the same seed told other stories"
    for text in grammar_stories:
        assert check.keeps_name(text), f"its main character's name is not kept:\n{text}"
        assert check.keeps_pronouns(text) is not False, f"its pronouns change:\n{text}"
        assert not set("{}|") & set(text), f"a template was not expanded:\n{text}"
        assert len(text.split()) <= corpus.MAX_WORDS


def test_checker_notices_a_changed_name_and_pronoun(grammar_stories):
    lone = next(text for text in grammar_stories if check.keeps_pronouns(text) and " she " in text)
    hero = check.NAME.search(lone)[1]
    other = next(name for name in sorted(grammar.NAMES) if name not in lone)
    head, end = lone.rsplit("\n\n", 1)
    assert not check.keeps_name(f"{head}\n\n{end.replace(hero, other)}")
    assert not check.keeps_name(f"{head} {other} laughed.\n\n{end}")
    assert check.keeps_name(f"{head} A fox called {other} laughed.\n\n{end}")
    assert not check.keeps_pronouns(lone.replace(" she ", " he ", 1))


def test_checker_measures_the_longest_copied_run():
    training = ["a b c d e f g", "h i j k l m n"]
    runs = check.Runs(training)
    assert runs.longest(["x b c d e y h i", "q r s"]) == (4, 4)  # not across the end of a story
    assert runs.longest(["f g h i"]) == (2, 2)
    assert runs.longest(["q r s"]) == (0, 0)
