"""--choice: the answer is one of the given texts. Their probabilities are compared with a log-softmax in double precision of
the logits after each of their tokens, and the texts that are drawn with their probabilities. A test's name is the promise
that it pins."""

import itertools
import json
import os
import random
import signal

import native_models
import numpy as np
import pytest
from chat_templates import THINKING
from conftest import CHUNKS, THREADS, Model, assert_refused, finish, logits, not_under_tsan, run, start, wait_for_work
from test_conversation import converse

import models
import native

PROMPT = "Once upon a time there was a little"
WORDS = [" girl", " boy", " bird"]
EOS = 1  # of native_models.tiny
VOCAB = native_models.TINY["vocab_size"]


@pytest.fixture(scope="module")
def letters(workdir):
    """A model of random weights over bytes, one merge ("ab") and a chat template. Context 64."""
    model = Model(workdir / "letters.bin")
    model.path.write_bytes(native_models.tiny(chat=True).pack())
    return model


@pytest.fixture(scope="module")
def undecided(workdir):
    """A model to which all tokens are equally likely."""
    model = Model(workdir / "undecided.bin")
    source = native_models.chat_source("<s>", "<s>", "\n", "", "</s><s>")
    model.path.write_bytes(native_models.chatting(source, ["<s>", "</s>"], []).pack())
    return model


def chosen(model, choices, *options, prompt=PROMPT, **popen):
    """The result of a run with these choices."""
    args = itertools.chain.from_iterable(("--choice", c) for c in choices)
    return run(*model, "-i", prompt, "--no-echo", "--json", *args, *options, **popen).ok().json


def probabilities(found):
    return np.array([p["probability"] for p in found["probabilities"]])


def logprobs(found):
    return np.array([p["logprob"] for p in found["probabilities"]])


def softmax(x):
    weights = np.exp(np.array(x) - max(x))
    return weights / weights.sum()


def letter_ids(text):
    """The tokens of a text of native_models.tiny: bytes, but for its merge."""
    ids, data = [], text.encode()
    while data:
        n = 2 if data.startswith(b"ab") else 1
        ids.append(258 if n == 2 else 2 + data[0])
        data = data[n:]
    return ids


def expected_logprob(model, prompt, choice, *options, end=None, vocab_size=VOCAB):
    """The sum over the tokens of a choice, and over the token `end` after them if it counts."""
    ids = [*prompt, *choice, *([] if end is None else [end])]
    rows = logits(model.path, ids[:-1], *options, vocab_size=vocab_size).astype(np.float64)[len(prompt) - 1 :]
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return rows[np.arange(len(rows)), ids[len(prompt) :]].sum()


def check_against_reference(model, choices, prompt="the cat", *options, end=None):
    found = chosen(model, choices, "--kv", "f32", *options, prompt=prompt)
    ids = [0, *letter_ids(prompt)]
    expected = [expected_logprob(model, ids, letter_ids(c), "--kv", "f32", end=end) for c in choices]
    assert [p["text"] for p in found["probabilities"]] == choices
    np.testing.assert_allclose(logprobs(found), expected, atol=2e-6)
    np.testing.assert_allclose(probabilities(found), softmax(expected), atol=2e-6)


def differing(count, seed, letters="abc", longest=6):
    """So many texts, none of which begins another."""
    rng, texts = random.Random(seed), []
    while len(texts) < count:
        text = "".join(rng.choice(letters) for _ in range(rng.randint(1, longest)))
        if not any(text.startswith(t) or t.startswith(text) for t in texts):
            texts.append(text)
    return texts


@pytest.mark.parametrize("count, letters_of, longest", [(1, "abc", 6), (5, "xyz", 1), (12, "abc", 6), (40, "abcdé", 5)])
def test_probabilities_are_the_products_of_the_token_probabilities(letters, count, letters_of, longest):
    check_against_reference(letters, differing(count if longest > 1 else 3, count, letters_of, longest))


@pytest.mark.parametrize("length", [0, 30, 31, 32, 33])
def test_a_prompt_may_end_anywhere_in_a_page(letters, length):
    check_against_reference(letters, ["abc", "abd", "bcdefgh", "bcdefgx", "zzzzzz"], "x" * length)


def test_where_one_choice_begins_another_all_include_the_end(letters):
    check_against_reference(letters, ["a", "ac", "acc", "b", "cab", "ca"], end=EOS)
    check_against_reference(letters, ["a", "ab"], end=EOS)  # the text begins the other, its token does not


def test_unicode_and_broken_bytes_are_choices(letters):
    check_against_reference(letters, ["日本", "日本語"], end=EOS)
    check_against_reference(letters, ["naïve", "😀", "😃", "line\nbreak", '"quoted"'])
    args = [letters.path, "-i", "a", "--no-echo", "-t", "0", "--choice", os.fsdecode(b"\xff\xfe")]
    assert run(*args).ok().bytes == "\ufffd\ufffd\n".encode()


def test_1024_choices_with_common_beginnings(letters):
    texts = ["".join(t) for t in itertools.product("stuv", repeat=5)]
    found = logprobs(chosen(letters, texts, "--kv", "f32", prompt="the cat"))
    ids, expected = [0, *letter_ids("the cat")], []
    for start in ("".join(t) for t in itertools.product("stuv", repeat=4)):
        rows = logits(letters.path, ids + letter_ids(start), "--kv", "f32", vocab_size=VOCAB).astype(np.float64)[len(ids) - 1 :]
        rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
        first = sum(row[token] for row, token in zip(rows, letter_ids(start)))
        expected += [first + rows[-1][letter_ids(last)[0]] for last in "stuv"]
    np.testing.assert_allclose(found, expected, atol=5e-6)


def test_sentencepiece_cuts_a_choice_as_the_continuation_of_the_prompt(stories):
    def ids(text):
        return [json.loads(line)["id"] for line in stories.generate("-i", text, "--tokenize", "--json").ok().out.splitlines()]

    prompt, newline = ids(PROMPT), ids("\n")
    choices = [" girl named Lily", " girl named Sue", " dog", "!", " café", "ness"]
    expected = []
    for choice in choices:
        tokens = ids("\n" + choice)
        assert tokens[: len(newline)] == newline
        expected.append(expected_logprob(stories, prompt, tokens[len(newline) :], "--kv", "f16", vocab_size=1024))
    found = chosen(stories, choices)
    np.testing.assert_allclose(logprobs(found), expected, atol=2e-6)


def test_a_text_that_no_tokens_stand_for_is_refused(stories):
    done = stories.generate("-i", PROMPT, "--choice", "a\u2581b", "--choice", "c")  # SentencePiece's mark is a space
    assert_refused(done, 3, "a\u2581b", "exactly this text")


# ----------------------------------------------------------------------------------------------------------------------
# The draw


def drawn(model, choices, seeds, *options):
    found = [chosen(model, choices, "-s", seed, *options)["text"] for seed in range(seeds)]
    return np.array([found.count(c) for c in choices]) / seeds


@pytest.mark.parametrize("temperature", [1, 0.4, 3])
def test_texts_are_as_frequent_as_their_probabilities_say(stories, temperature):
    seeds = 300
    p = probabilities(chosen(stories, WORDS))
    expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
    found = drawn(stories, WORDS, seeds, "-t", temperature, "-p", 1)
    assert (abs(found - expected) < 4.5 * np.sqrt(expected * (1 - expected) / seeds) + 1e-9).all(), (found, expected)


@pytest.mark.parametrize("option", [("-t", "0"), ("-k", "1"), ("-p", "0.01"), ("--min-p", "1")])
def test_filters_apply_to_the_choices(stories, option):
    best = WORDS[int(probabilities(chosen(stories, WORDS)).argmax())]
    assert {chosen(stories, WORDS, *option, "-s", seed)["text"] for seed in range(8)} == {best}


def test_of_equal_choices_the_first_is_taken(undecided):
    found = chosen(undecided, ["zz", "aa", "mm"], "-t", "0", "--chat", prompt="a")
    assert found["text"] == "zz" and list(probabilities(found)) == [0.333333] * 3


def test_reported_probabilities_do_not_depend_on_the_sampling_options(stories):
    expected = chosen(stories, WORDS)["probabilities"]
    for options in (("-t", "0"), ("-t", "2"), ("-k", "1"), ("-p", "0.1")):
        assert chosen(stories, WORDS, *options)["probabilities"] == expected, options


# ----------------------------------------------------------------------------------------------------------------------
# Same bytes everywhere


def test_digest_text_and_probabilities_are_the_same_for_any_threads_kernels_and_chunks(stories, simd_sets):
    choices = [" " + " ".join(t) for t in itertools.product(("red", "blue"), ("cat", "dog", "car"), ("ran", "sat", "saw"))]
    args = [*itertools.chain.from_iterable(("--choice", c) for c in [*choices, " red cat ran home"])]
    args += ["-i", PROMPT + ", and then" * 20, "--digest", "-s", "4", "--json"]

    def outcome(*options):
        done = stories.generate(*args, *options).ok()
        return done.json["text"], done.json["probabilities"], done.digest

    expected = outcome("--simd", "scalar", "-j", "1", "--chunk", "1")
    ways = [("--simd", s) for s in simd_sets] + [("-j", j) for j in THREADS] + [("--chunk", c) for c in CHUNKS]
    for way in [*ways, ("--lookup", "0"), ()]:
        assert outcome(*way) == expected, way


def test_digest_is_of_the_logits_in_the_order_of_the_tokens(letters):
    """Each row once: that of the prompt, then those of the choices, sorted. Lanes would run common beginnings several times."""
    choices, ids = ["zab", "ca", "cab", "cabin", "caz", "b"], [0, *letter_ids("the cat")]
    digest, seen = 0xCBF29CE484222325, set()
    for tokens in sorted(letter_ids(c) for c in choices):
        rows = logits(letters.path, ids + tokens, "--kv", "f32", vocab_size=VOCAB)[len(ids) - 1 :]
        for depth, row in enumerate(rows):
            if tuple(tokens[:depth]) not in seen:
                seen.add(tuple(tokens[:depth]))
                for bits in row.view(np.uint32).tolist():
                    digest = (digest ^ bits) * 0x100000001B3 % 2**64
    args = itertools.chain.from_iterable(("--choice", c) for c in choices)
    assert letters.generate("-i", "the cat", "--digest", "--kv", "f32", *args).ok().digest == f"digest: {digest:016x}"


def test_digest_depends_on_the_choices(stories):
    digests = [stories.generate("-i", PROMPT, "--digest", "--choice", a, "--choice", b).ok().digest
               for a, b in ((" girl", " boy"), (" girl named", " boy named"), (" girl named", " cat named"))]  # fmt: skip
    assert len(set(digests)) == 3, digests


def test_a_prompt_cache_changes_nothing(stories, tmp_path):
    prompt = PROMPT + " and a big" * 30
    expected = chosen(stories, WORDS, "-s", "1", prompt=prompt)["probabilities"]
    for _ in range(2):
        found = chosen(stories, WORDS, "-s", "1", "--prompt-cache", tmp_path / "kept", prompt=prompt)
        assert found["probabilities"] == expected


# ----------------------------------------------------------------------------------------------------------------------
# With other options


def test_the_text_follows_the_prompt_and_ends_with_stop(stories):
    args = ["-i", PROMPT, "--choice", " girl", "-t", "0"]
    assert stories.generate(*args).ok().out == PROMPT + " girl\n"
    assert stories.generate(*args, "--no-echo").ok().out == " girl\n"
    found = stories.generate(*args, "--no-echo", "--json").ok().json
    assert (found["text"], found["finish_reason"], found["completion_tokens"]) == (" girl", "stop", 1)
    assert "new 1 tokens" in stories.generate(*args, "--stats").ok().err


def test_logprobs_are_those_of_the_tokens_of_the_text(letters):
    found = chosen(letters, ["abcde", "bcdea"], "--logprobs", "2", prompt="the cat")
    of_text = next(p for p in found["probabilities"] if p["text"] == found["text"])
    assert [t["id"] for t in found["logprobs"]] == letter_ids(found["text"])
    assert abs(sum(t["logprob"] for t in found["logprobs"]) - of_text["logprob"]) < 1e-5
    assert all(len(t["top"]) == 2 for t in found["logprobs"])


def test_an_answer_in_a_chat_is_a_choice(letters):
    for seed in range(5):
        assert chosen(letters, ["yes", "no", "?"], "--chat", "-s", seed, prompt="a")["text"] in ("yes", "no", "?")


def test_every_answer_of_a_conversation_is_a_choice(letters):
    with converse(letters, "--choice", "yes", "--choice", "no", "-s", "1") as t:
        for message in ("a", "b", "c"):
            t.say(message)
        said = [line for line in t.screen if line in ("yes", "no")]
        assert len(said) == 3, t


def test_a_model_that_thinks_must_be_told_not_to(workdir):
    model = Model(workdir / "choice-thinks.bin")
    special = ["<s>", "<|eos|>", "<|user|>", "<|assistant|>", "<|end|>"]
    model.path.write_bytes(native_models.chatting(THINKING, special, ["<think>", "</think>"]).pack())
    assert_refused(run(*model, "--chat", "-i", "a", "--choice", "b"), 3, "thinks", "--think off")
    found = chosen(model, ["b", "<think>"], "--chat", "--think", "off", "-t", "0", prompt="a")
    assert found["text"] == "b" and "reasoning" not in found


def test_a_choice_must_fit_into_the_tokens_that_there_may_be(letters):
    assert chosen(letters, ["abcd"], "-n", "3", prompt="a")["text"] == "abcd"
    assert_refused(letters.generate("-i", "a", "--choice", "abcd", "-n", "2"), 3, "3 tokens", "2 new tokens")
    assert chosen(letters, ["y" * 53], prompt="x" * 10)["completion_tokens"] == 53
    assert_refused(letters.generate("-i", "x" * 10, "--choice", "y" * 54), 3, "54 tokens", "53 new tokens")


def test_without_an_end_token_no_choice_may_begin_another(workdir):
    vocabulary = native_models.byte_vocabulary()
    vocabulary.end = []
    model = Model(workdir / "endless-letters.bin")
    made = native.Writer(native_models.TINY, vocabulary.section(), lambda _, shape: models.uniform(1, shape), ())
    model.path.write_bytes(made.pack())
    assert chosen(model, ["ab", "ac"], prompt="a")["text"] in ("ab", "ac")
    assert_refused(model.generate("-i", "a", "--choice", "a", "--choice", "ac"), 3, "begins another", "end token")


@not_under_tsan
def test_an_interruption_ends_the_run(slow):
    choices = itertools.chain.from_iterable(("--choice", f"{i:04} the cat") for i in range(1024))
    process = start(*slow, "-i", "a", *choices, "--no-echo")
    wait_for_work(process)
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130


REFUSED = [
    (["--choice", ""], 2, ["--choice", "non-empty"]),
    (["--choice", "a", "--choice", "b", "--choice", "a"], 2, ["--choice", "duplicate a, expected different texts"]),
    ([x for i in range(1025) for x in ("--choice", str(i))], 2, ["--choice", "1024 times"]),
    (["--choice", "a", "--regex", "a"], 2, ["--choice", "one constraint"]),
    (["--choice", "a", "--stop", "b"], 2, ["--stop", "not with a constraint"]),
    (["--choice", "a", "--min-tokens", "2"], 2, ["--min-tokens", "not with a constraint"]),
    (["--choice", "a", "--logit-bias", "5=1"], 2, ["--logit-bias", "not with --choice"]),
    (["--choice", "a", "--repeat-penalty", "1.1"], 2, ["--repeat-penalty", "not with --choice"]),
    (["--choice", "a", "--score"], 2, ["--choice", "not in this mode"]),
    (["--choice", "a", "--info"], 2, ["--choice", "not in this mode"]),
]


@pytest.mark.parametrize("args, code, names", REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_named(stories, args, code, names):
    assert_refused(stories.generate("-i", "Once", *args), code, *names)
