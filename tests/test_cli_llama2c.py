"""llama2.c's files: the stories that its own executable tells from them (golden: scripts/make_golden.py --llama2c), and
the tokenizer beside the model. The files are the default model's (default_model.py)."""

import json
import re
import shutil

import pytest
from conftest import GOLDEN_DIR, GREEDY, PROMPT, Model, assert_refused, run

import default_model
import models

GOLDEN_STORIES = json.loads((GOLDEN_DIR / "llama2c_stories.json").read_text(encoding="utf-8"))
STORIES = GOLDEN_STORIES["stories"]


def story_id(story):
    how = f"seed{story['seed']}" if story["temperature"] else "greedy"
    return f"{how}-{re.sub('[^A-Za-z]+', '_', story['prompt'])[:20] or 'empty'}"


@pytest.fixture(scope="module")
def llama2c_stories(tmp_path_factory):
    """kind of file -> the default model as such a file of llama2.c, with its tokenizer.bin."""
    paths, tokenizer = default_model.write_llama2c(tmp_path_factory.mktemp("llama2c"), ["v0", "v1", "v2-32"])
    return {kind: Model(path, tokenizer) for kind, path in paths.items()}


def tell(model, story):
    """A run for as many tokens as llama2.c's: its count includes the prompt, but not BOS."""
    prompt_tokens = len(model.generate("--tokenize", "-i", story["prompt"]).ok().out.split())
    sampling = ("-t", story["temperature"], "-p", story.get("top_p", 0.9), "-s", story["seed"])
    count = GOLDEN_STORIES["steps"] - prompt_tokens + 1
    assert count >= 150
    return model.generate("-i", story["prompt"], "-n", count, *sampling, "--json").ok().json


@pytest.mark.parametrize("story", STORIES, ids=story_id)
def test_story_is_the_one_that_llama2c_tells(llama2c_stories, story):
    model = llama2c_stories["v0"]
    digest = models.sha256(model.path.read_bytes())
    assert digest == GOLDEN_STORIES["model_sha256"], "tests/default_model.py writes another model than the golden one"
    assert tell(model, story)["text"] == story["text"]


@pytest.mark.parametrize("story", [s for s in STORIES if s["temperature"] == 0], ids=story_id)
def test_greedy_story_of_the_v1_file_is_that_of_v0(llama2c_stories, story):
    assert tell(llama2c_stories["v1"], story)["text"] == story["text"]


def test_v2_file_tells_a_sensible_story(llama2c_stories):
    seen = llama2c_stories["v2-32"].generate(*PROMPT, "-n", "150", *GREEDY).ok().out
    assert seen.startswith("Once upon a time, a"), seen
    words = re.findall(r"[A-Za-z']+", seen)
    known = set(re.findall(r"[A-Za-z']+", " ".join(s["text"] for s in STORIES)))
    strange = [w for w in words[:-1] if w not in known]  # the last may be cut
    assert len(words) > 50 and len(strange) < len(words) / 10, strange


def test_v2_file_has_the_same_digest_for_any_kernels(llama2c_stories, simd_sets):
    model = llama2c_stories["v2-32"]
    digests = {simd: model.generate(*PROMPT, "-n", "60", *GREEDY, "--digest", "--simd", simd).ok().digest
               for simd in simd_sets}  # fmt: skip
    assert len(set(digests.values())) == 1, digests
def test_default_tokenizer_is_beside_the_model_then_here(tiny, tmp_path):
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder in (beside, here):
        folder.mkdir()
    shutil.copy(tiny.path, beside / "model.bin")
    args = ("-i", "the", "-n", "5", *GREEDY)
    expected = tiny.generate(*args).ok().bytes
    shutil.copy(tiny.tokenizer, here / "tokenizer.bin")
    assert run(beside / "model.bin", *args, cwd=here).ok().bytes == expected
    shutil.copy(tiny.tokenizer, beside / "tokenizer.bin")
    (here / "tokenizer.bin").write_bytes(b"no tokenizer")
    assert run(beside / "model.bin", *args, cwd=here).ok().bytes == expected
    (beside / "tokenizer.bin").write_bytes(b"no tokenizer")
    assert_refused(run(beside / "model.bin", *args, cwd=here), 3, "beside/tokenizer.bin", "-z FILE")
