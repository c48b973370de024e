"""--logprobs of what is generated and --score of what is given, compared with the logits that build/tests/logits writes."""

import numpy as np
import pytest
from conftest import BUILD_DIR, GREEDY, PROMPT, assert_refused, logits, run

import models

# ----------------------------------------------------------------------------------------------------------------------
# --logprobs


@pytest.mark.parametrize("k", [0, 1, 5, 20])
def test_logprobs_gives_each_new_token_and_the_k_best(stories, k):
    seen = stories.generate(*PROMPT, "-n", "30", "-s", "3", "--json", "--logprobs", k).ok().json
    assert len(seen["logprobs"]) == seen["completion_tokens"]
    for token in seen["logprobs"]:
        assert {"id", "token", "bytes", "logprob", "top"} == set(token), token
        assert len(token["top"]) == k
        best = [t["logprob"] for t in token["top"]]
        assert best == sorted(best, reverse=True), best
        assert all({"id", "token", "bytes", "logprob"} == set(t) for t in token["top"])
        assert token["logprob"] <= 1e-6 and sum(np.exp(best)) <= 1 + 1e-5
        for t in token["top"]:
            if t["id"] == token["id"]:
                assert t["logprob"] == token["logprob"]


def test_temperature_0_takes_the_best_of_logprobs(stories):
    seen = stories.generate(*PROMPT, "-n", "60", *GREEDY, "--json", "--logprobs", "2").ok().json
    for token in seen["logprobs"]:
        assert token["id"] == token["top"][0]["id"], token


def test_logprobs_bytes_spell_the_continuation(stories):
    seen = stories.generate(*PROMPT, "-n", "40", *GREEDY, "--json", "--no-echo", "--logprobs", "1").ok().json
    spelled = b"".join(bytes(token["bytes"]) for token in seen["logprobs"])
    assert spelled.decode() == seen["text"]


def test_logprobs_are_the_log_softmax_of_the_logits(stories):
    if not (BUILD_DIR / "tests" / "logits").exists():
        pytest.fail("the logits executable was not built")
    prompt = [int(i) for i in stories.generate("--tokenize", *PROMPT).ok().out.split()]
    seen = stories.generate(*PROMPT, "-n", "20", "-t", "0.8", "-s", "3", "--kv", "f32", "--json",
                            "--logprobs", "3").ok().json  # fmt: skip
    ids = [token["id"] for token in seen["logprobs"]]
    rows = logits(stories.path, [*prompt, *ids], "--kv", "f32", vocab_size=1024)[len(prompt) - 1 : -1].astype(np.float64)
    expected = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
    for token, row in zip(seen["logprobs"], expected):
        assert abs(token["logprob"] - row[token["id"]]) < 1e-4, (token, row[token["id"]])
        assert [t["id"] for t in token["top"]] == np.argsort(-row, kind="stable")[:3].tolist()


def test_logprobs_change_no_token(stories):
    plain = stories.generate(*PROMPT, "-n", "60", "-s", "3", "--json").ok().json["text"]
    assert stories.generate(*PROMPT, "-n", "60", "-s", "3", "--json", "--logprobs", "5").ok().json["text"] == plain


# ----------------------------------------------------------------------------------------------------------------------
# --score


@pytest.mark.parametrize("context", [2, 7, 33, 64])
def test_score_is_the_mean_of_the_log_softmax_in_windows_of_the_context(tiny, context):
    text = "the rain in Spain stays mainly in the plain, and the fox is in the den"
    ids = [int(i) for i in run(*tiny, "--tokenize", "-i", text).ok().out.split()]
    assert len(ids) > 33 and len(ids) != 64
    expected = []
    for start_ in range(0, len(ids), context):
        window = ids[start_ : start_ + context]
        rows = logits(tiny.path, window, vocab_size=models.TINY.vocab_size).astype(np.float64)
        rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
        expected += [None, *(row[token] for row, token in zip(rows, window[1:]))]
    scored = [logprob for logprob in expected if logprob is not None]
    for chunk in (1, 3, 512):
        seen = run(*tiny, "--score", "--json", "-i", text, "-c", context, "--chunk", chunk).ok().json
        assert (seen["tokens"], seen["scored"]) == (len(ids), len(scored))
        assert [logprob is None for logprob in seen["logprobs"]] == [logprob is None for logprob in expected]
        assert np.allclose([x for x in seen["logprobs"] if x is not None], scored, atol=2e-5)
        assert abs(seen["nll"] + np.mean(scored)) < 2e-5
        assert abs(seen["perplexity"] / np.exp(-np.mean(scored)) - 1) < 2e-5
    line = run(*tiny, "--score", "-i", text, "-c", context).ok().out
    assert line == (f"{len(ids)} tokens, {len(scored)} scored, nll {seen['nll']:.6f}, "
                    f"perplexity {seen['perplexity']:.6f}\n")  # fmt: skip


@pytest.mark.parametrize("options, says", [(("-i", ""), "tokens 1,"), (("-i", "the cat", "-c", "1"), "context 1,")])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_a_text_without_a_token_to_score_is_an_error(tiny, options, says, form):
    assert_refused(run(*tiny, "--score", *options, *form), 3, "--score: no token to score", says)
