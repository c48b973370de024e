"""--tokenize: the ids of a prompt, and with --json an object for each token."""

import json
import re

import pytest
from conftest import PROMPT, SLOWER, assert_refused, run

import models
import native_models


def test_tokenize_prints_ids_on_one_line(stories):
    done = stories.generate("--tokenize", *PROMPT).ok()
    assert re.fullmatch(r"1( \d+)+\n", done.out), f"expected BOS and ids\n{done}"


@pytest.mark.parametrize("name", ["made-llama2", "llama2"])
def test_tokenize_matches_sentencepiece_with_the_vocabulary_of_llama_2(name, tmp_path):
    """Also with one of its kind that is made here (vocabularies.py)."""
    vocabularies = pytest.importorskip("vocabularies")
    processor = vocabularies.processor(name)
    config = models.Config(8, 8, 1, 1, 1, processor.vocab_size(), 4096)
    models.write_zero_model(tmp_path / "m.bin", config)
    text = "Grüße aus Zürich!  def f(x):\n\treturn x**2  # 你好, мир 😀\n\n\n   end "
    done = run(tmp_path / "m.bin", "-z", vocabularies.llama2c_path(name), "--tokenize", "-i", text).ok()
    assert [int(i) for i in done.out.split()] == [1, *processor.encode(text)]


def test_tokenize_of_an_empty_prompt_is_bos(tiny):
    assert tiny.generate("--tokenize", "-i", "").ok().out == "1\n"


def test_tokenize_json_gives_an_object_a_token(stories):
    text = "Once é\n"
    ids = [int(i) for i in stories.generate("--tokenize", "-i", text).ok().out.split()]
    lines = stories.generate("--tokenize", "--json", "-i", text).ok().out.splitlines()
    objects = [json.loads(line) for line in lines]
    assert [o["id"] for o in objects] == ids
    assert all(set(o) >= {"id", "bytes", "special"} for o in objects), objects
    assert [o["special"] for o in objects] == [True] + [False] * (len(ids) - 1)
    spelled = b"".join(bytes(o["bytes"]) for o in objects[1:])
    assert spelled == b" " + text.encode(), f"{spelled!r}"


def test_tokenize_needs_no_context_for_a_long_prompt(stories):
    done = stories.generate("--tokenize", "-f", "-", stdin=b"Once upon a time " * 1000).ok()
    assert len(done.out.split()) > 2000


def test_tokenize_is_quick_for_a_megabyte(tiny):
    text = (b"the rain in an other then " * 40000)[: 1 << 20]
    done = tiny.generate("--tokenize", "-f", "-", stdin=text).ok()
    assert done.cpu_seconds < 10 * SLOWER, f"took {done.cpu_seconds:.1f} s of processor time, expected less than 10"


def test_names_of_special_tokens_in_a_prompt_are_text(stories):
    ids = stories.generate("--tokenize", "-i", "a<s></s>b").ok().out.split()
    assert ids[0] == "1" and "1" not in ids[1:] and "2" not in ids[1:], ids


# Of native_models.tiny: its template is <s>SYSTEM\nUSER</s>, or <s>USER</s>; a byte's token is the byte + 2, `ab` is one.
BOS, EOS, AB = 0, 1, 258


def ids_of(text):
    ids = [byte + 2 for byte in text.encode()]
    return [BOS, *ids, EOS]


@pytest.fixture(scope="module")
def chatty(workdir):
    path = workdir / "tokenize-chatty.bin"
    path.write_bytes(native_models.tiny(chat=True).pack())
    return path


def tokenize(model, *options):
    return [int(i) for i in run(model, "--tokenize", *options).ok().out.split()]


def test_tokenize_of_a_chat_gives_the_ids_of_the_rendered_template(chatty):
    assert tokenize(chatty, "--chat", "-i", "Hi") == ids_of("Hi")
    assert tokenize(chatty, "--chat", "-i", "Hi", "-y", "Be kind") == ids_of("Be kind\nHi")
    assert tokenize(chatty, "--chat", "-i", "cab") == [BOS, ord("c") + 2, AB, EOS]
    assert tokenize(chatty, "-i", "Hi") == ids_of("Hi")[:-1], "without --chat"


def test_tokenize_of_a_chat_counts_what_the_model_is_given(chatty):
    options = ("--chat", "-i", "the hat", "-y", "an")
    told = run(chatty, *options, "-n", "1", "--json").ok().json["prompt_tokens"]
    assert len(tokenize(chatty, *options)) == told


def test_tokenize_of_a_chat_shows_which_tokens_are_the_templates(chatty):
    lines = run(chatty, "--tokenize", "--chat", "--json", "-i", "</s>").ok().out.splitlines()
    objects = [json.loads(line) for line in lines]
    assert [o["id"] for o in objects] == ids_of("</s>"), "a message cannot forge the end of a turn"
    assert [o["special"] for o in objects] == [True, *[False] * 4, True]
    assert bytes(objects[-1]["bytes"]) == b"</s>"
    assert tokenize(chatty, "--chat", "--special", "-i", "</s>") == [BOS, EOS, EOS]


def test_tokenize_of_a_chat_needs_a_template(stories):
    assert_refused(stories.generate("--tokenize", "--chat", "-i", "Hi"), 3, "stories.bin", "chat template", "--chat")
