"""Sampling, as far as it can be seen from outside: seeds, temperature, top-k, top-p, min-p, the repeat penalty."""

import json

import numpy as np
import pytest
from conftest import GREEDY, PROMPT, run

import models
import native_models


def test_same_seed_same_text_and_other_seeds_other_texts(stories):
    def tell(seed):
        return stories.generate(*PROMPT, "-n", "60", "-s", seed).ok().bytes

    assert tell(7) == tell(7)
    assert len({tell(seed) for seed in (1, 2, 3, 42, 2**32 + 1, 2**64 - 1)}) == 6


def test_seed_comes_from_the_system_and_repeats_the_run_where_none_is_given(stories):
    first, second = (stories.generate(*PROMPT, "-n", "60", "--json").ok().json for _ in range(2))
    assert first["seed"] != second["seed"], f"the same seed twice: {first['seed']}"
    again = stories.generate(*PROMPT, "-n", "60", "--json", "-s", first["seed"]).ok().json
    assert again["text"] == first["text"]


def test_seed_0_is_a_seed_like_any_other(stories):
    texts = [stories.generate(*PROMPT, "-n", "40", "-s", "0").ok().bytes for _ in range(2)]
    assert texts[0] == texts[1]


def test_top_k_1_is_greedy(stories):
    expected = stories.generate(*PROMPT, "-n", "60", *GREEDY).ok().bytes
    assert stories.generate(*PROMPT, "-n", "60", "--top-k", "1", "-s", "9").ok().bytes == expected


def test_tiny_top_p_and_min_p_1_are_greedy(stories):
    expected = stories.generate(*PROMPT, "-n", "60", *GREEDY).ok().bytes
    assert stories.generate(*PROMPT, "-n", "60", "--top-p", "0.000001", "-s", "9").ok().bytes == expected
    assert stories.generate(*PROMPT, "-n", "60", "--min-p", "1", "-p", "1", "-s", "9").ok().bytes == expected


def test_top_p_0_and_1_are_off(stories):
    texts = {stories.generate(*PROMPT, "-n", "60", "-s", "9", "--top-p", p).ok().bytes for p in ("0", "1")}
    assert len(texts) == 1
    assert texts != {stories.generate(*PROMPT, "-n", "60", "-s", "9", "--top-p", "0.5").ok().bytes}


def test_greedy_needs_no_seed(stories):
    texts = {stories.generate(*PROMPT, "-n", "60", *GREEDY, "-s", s).ok().bytes for s in (1, 2, 3)}
    assert len(texts) == 1


def test_top_k_draws_only_from_the_k_best(stories):
    for seed in range(3):
        seen = stories.generate(*PROMPT, "-n", "40", "-k", "3", "-p", "1", "-t", "2", "-s", seed, "--json",
                                "--logprobs", "3").ok().json  # fmt: skip
        for token in seen["logprobs"]:
            assert token["id"] in [t["id"] for t in token["top"]], token


def test_min_p_draws_only_tokens_of_that_share_of_the_best(stories):
    for seed in range(3):
        seen = stories.generate(*PROMPT, "-n", "40", "--min-p", "0.2", "-p", "1", "-s", seed, "--json",
                                "--logprobs", "1").ok().json  # fmt: skip
        for token in seen["logprobs"]:
            assert token["logprob"] >= token["top"][0]["logprob"] + np.log(0.2) - 1e-4, token


def test_repeat_penalty_makes_repetition_rarer(stories):
    def distinct(*options):
        seen = stories.generate(*PROMPT, "-n", "60", *GREEDY, "--ignore-eos", "--json", "--logprobs", "0", *options)
        return len({token["id"] for token in seen.ok().json["logprobs"]})

    plain = distinct()
    assert distinct("--repeat-penalty", "1") == plain
    assert distinct("--repeat-penalty", "1.5", "--repeat-last-n", "0") == plain, "a window of nothing penalises"
    assert distinct("--repeat-penalty", "2", "--repeat-last-n", "60") > plain


def test_high_temperature_is_wilder_than_low(stories):
    def mean_logprob(temperature):
        seen = stories.generate(*PROMPT, "-n", "100", "-t", temperature, "-p", "1", "-s", "4", "--ignore-eos",
                                "--json", "--logprobs", "0").ok().json  # fmt: skip
        return np.mean([token["logprob"] for token in seen["logprobs"]])

    cold, warm, hot = (mean_logprob(t) for t in ("0.1", "1", "3"))
    assert cold > warm > hot, (cold, warm, hot)


def test_zero_model_draws_every_token_about_equally(tiny, tmp_path):
    config = models.Config(8, 8, 1, 1, 1, 300, 4096)
    models.write_zero_model(tmp_path / "zero.bin", config)
    seen = run(tmp_path / "zero.bin", "-z", tiny.tokenizer, "-i", "", "-n", "3000", "-p", "1", "-s", "1",
               "--ignore-eos", "--json", "--logprobs", "1").ok().json  # fmt: skip
    counts = np.bincount([token["id"] for token in seen["logprobs"]], minlength=300)
    chi_square = ((counts - 10.0) ** 2 / 10).sum()  # 299 degrees of freedom: mean 299, standard deviation 24
    assert 180 < chi_square < 420, chi_square
    assert all(abs(token["logprob"] + np.log(300)) < 1e-5 for token in seen["logprobs"][:20])


def test_extreme_settings_draw_something(stories):
    for options in (("-t", "1e-30"), ("-t", "1000"), ("-k", "1000000"), ("--min-p", "0"), ("-p", "0.9999999")):
        stories.generate(*PROMPT, "-n", "10", "-s", "1", *options).ok()


# ----------------------------------------------------------------------------------------------------------------------
# What the checkpoint recommends


@pytest.fixture(scope="module")
def recommending(tmp_path_factory):
    """recommending(NAME=VALUE, ..): a small model that recommends these values."""
    folder = tmp_path_factory.mktemp("recommending")

    def make(**sampling):
        path = folder / "-".join([*sampling, "m.bin"])
        path.write_bytes(native_models.tiny(sampling=sampling).pack())
        return path

    return make


@pytest.mark.parametrize(
    "recommended, same",
    [
        ({"temperature": 0.0}, ("-t", 0)),
        ({"temperature": 0.5, "top_p": 0.8}, ("-t", 0.5, "-p", 0.8)),
        ({"top_k": 3.0}, ("-k", 3)),
        ({"min_p": 0.9}, ("--min-p", 0.9)),
        ({"repeat_penalty": 1.9, "repeat_last_n": 2.0}, ("--repeat-penalty", 1.9, "--repeat-last-n", 2)),
    ],
)
def test_recommended_values_are_the_defaults_and_options_override_them(recommending, recommended, same):
    model, plain = recommending(**recommended), recommending()
    prompt = ("-i", "ab", "-n", 30, "-s", 5, "--digest")
    expected, without = run(plain, *prompt, *same).ok(), run(plain, *prompt).ok()
    done = run(model, *prompt).ok()
    assert (done.bytes, done.err) == (expected.bytes, expected.err)
    assert done.err != without.err, "the values that are tried make no difference"
    overridden = run(model, *prompt, "-t", 1, "-p", 0.9, "-k", 0, "--min-p", 0, "--repeat-penalty", 1).ok()
    assert (overridden.bytes, overridden.err) == (without.bytes, without.err)


def test_a_request_overrides_the_command_line_and_that_the_model(recommending, tmp_path):
    def text(model, body, *options):
        (tmp_path / "q").write_text(json.dumps({"prompt": "ab", "max_tokens": 20, "seed": 5, **body}) + "\n")
        return json.loads(run(model, "--batch", tmp_path / "q", *options).ok().out)["text"]

    model, plain = recommending(temperature=0.0), recommending()
    hot, greedy = text(plain, {"temperature": 3}), text(plain, {"temperature": 0})
    assert hot != greedy
    assert text(model, {}) == greedy
    assert text(model, {}, "-t", 3) == hot
    assert text(model, {"temperature": 3}, "-t", 0) == hot
    assert text(model, {"temperature": 0}, "-t", 3) == greedy


def test_info_shows_what_the_model_recommends(recommending):
    model = recommending(temperature=0.2, top_p=0.9)
    assert "\nsampling         temperature 0.2, top-p 0.9\n" in run(model, "--info").ok().out
    assert run(model, "--info", "--json").ok().json["sampling"] == {"temperature": 0.2, "top_p": 0.9}
    assert "\nsampling         temperature 1 (default), top-p 0.9 (default)\n" in run(recommending(), "--info").ok().out
    assert run(recommending(), "--info", "--json").ok().json["sampling"] == {}
