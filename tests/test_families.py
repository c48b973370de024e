"""The families of models: tiny ones as transformers reads them, through scripts/convert.py, give the logits of
transformers (golden/families.npz) and the same bits however they are computed."""

import re
import sys

import numpy as np
import pytest
from conftest import DATA_DIR, EXECUTABLE, GOLDEN_DIR, ROOT, assert_refused, logits, run

sys.path.insert(0, str(ROOT / "scripts"))
import convert as converter  # noqa: E402

import models
import sources

TOLERANCE = 1e-4  # of logits with a standard deviation of about 1.5
WAYS = [("--threads", 1, "--chunk", 1), ("--threads", 3, "--chunk", 7), ("--threads", 2, "--chunk", 64)]
# LongRoPE takes the short table up to the original context.
FAMILY_OPTIONS = {"phi3_short": ("--context", sources.FAMILIES["phi3_short"]["original_max_position_embeddings"])}


def convert(folder, path, *options):
    """In this process, since starting Python takes longer than to convert a tiny model."""
    argv, sys.argv = sys.argv, ["convert.py", "--run", str(EXECUTABLE), str(folder), str(path), *options]
    try:
        assert converter.main() == 0, "see the message above"
    finally:
        sys.argv = argv
    return path


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """name, type -> the checkpoint of a family."""
    base, made = tmp_path_factory.mktemp("families"), {}

    def get(name, kind):
        folder, path = base / name, base / f"{name}-{kind}.bin"
        if (name, kind) not in made:
            sources.write_folder(folder, sources.FAMILIES[name])
            made[name, kind] = convert(folder, path, "--type", kind)
        return path

    return get


def family_logits(path, name, *options):
    config = sources.FAMILIES[name]
    tokens = sources.tokens(config, sources.N_FAMILY_TOKENS)
    return logits(path, tokens, *options, *FAMILY_OPTIONS.get(name, ()), vocab_size=config["vocab_size"])


@pytest.mark.parametrize("name", sources.FAMILIES)
def test_logits_are_those_of_transformers(converted, name):
    path, golden = converted(name, "f32"), np.load(GOLDEN_DIR / "families.npz")
    digest = models.sha256((path.parent / name / "model.safetensors").read_bytes())
    assert digest == str(golden[f"{name} sha256"]), "tests/sources.py makes another model than the golden one"
    expected = golden[f"{name} logits"]
    seen = family_logits(path, name, "--kv", "f32")[sources.FAMILY_ROWS, sources.FAMILY_COLUMNS]
    off = np.abs(seen - expected)
    assert np.isfinite(seen).all(), "a logit is not finite"
    assert expected.std() > 0.5, f"logits of {expected.std()} on average show little"
    row = off.max(axis=1).argmax()
    assert off.max() <= TOLERANCE, f"off by up to {off.max():.2e} in row {row}, by {off[0].max():.2e} in the first"


@pytest.mark.parametrize("name", sources.FAMILIES)
def test_logits_have_the_same_bits_however_computed(converted, simd_sets, name):
    """In q8, so that what the switches compute is also quantised."""
    path = converted(name, "q8")
    plain = family_logits(path, name, "--simd", "scalar", "--threads", 2, "--chunk", 32)
    assert np.isfinite(plain).all(), "a logit is not finite"
    for way in [*WAYS, *(("--simd", simd, "--threads", 2, "--chunk", 32) for simd in simd_sets)]:
        seen = family_logits(path, name, *way)
        differing = (seen.view(np.uint32) != plain.view(np.uint32)).any(axis=1).nonzero()[0]
        assert differing.size == 0, f"{way}: {differing.size} rows differ, the first is row {differing[0]}"


def test_minicpm_is_granite_with_other_names_for_its_multipliers(converted, tmp_path):
    """transformers has no class for it, so the same weights are read by both names."""
    granite = {**sources.FAMILIES["granite"], "attention_multiplier": 0.25}  # 1 / sqrt(head_dim)
    minicpm = {**granite, "architectures": ["MiniCPMForCausalLM"], "scale_emb": 12.0, "scale_depth": 0.44,
               "dim_model_base": 32 / 0.75}  # fmt: skip
    seen = []
    for config in (granite, minicpm):
        folder, path = tmp_path / config["architectures"][0], tmp_path / "out.bin"
        sources.write_folder(folder, config)
        convert(folder, path, "--type", "f32")
        seen.append(family_logits(path, "granite"))
    assert np.abs(seen[0] - seen[1]).max() < 1e-5


@pytest.mark.parametrize("dtype, expected", [("f32", 50.59644317626953), ("f16", 50.59375), ("bf16", 50.5)])
def test_gemma_s_embedding_scale_is_rounded_to_the_type_of_the_embedding(dtype, expected):
    """The square root of 2560, 50.596443: bf16 has 8 bits, and so steps of 1/4 there."""
    embedding = converter.source_huggingface.Tensor("model.safetensors", 0, 4, 2560, dtype, "embedding")
    assert converter.source_huggingface.rounded(2560**0.5, embedding) == expected


def test_longrope_has_its_original_context_unless_a_longer_one_is_requested(converted, tmp_path):
    path, cached = converted("phi3_long", "q8"), tmp_path / "prompt.kv"
    assert run(path, "--info", "--json").ok().json["context"] == 64
    assert run(path, "--info", "--json", "-c", 256).ok().json["context"] == 256
    assert_refused(run(path, "-i", "a", "-c", 257), 2, "--context 257", "expected at most 256")
    assert_refused(run(path, "-i", "a" * 100, "-n", 1), 3, "context")  # never another table
    run(path, "-i", "a" * 100, "-c", 256, "-n", 1).ok()
    run(path, "-i", "a" * 40, "-n", 1, "--prompt-cache", cached).ok()
    assert_refused(run(path, "-i", "a" * 40, "-n", 1, "-c", 256, "--prompt-cache", cached), 3, "--context", "LongRoPE")


# Templates of these families' models; the others have none in ../shared.
TEMPLATES = {
    "llama_biases": "meta-llama-Llama-3.1-8B-Instruct", "qwen3": "Qwen-Qwen3-0.6B", "qwen3_moe": "Qwen-Qwen3-0.6B",
    "smollm3": "HuggingFaceTB-SmolLM3-3B", "granite": "ibm-granite-granite-3.3-2B-Instruct", "gemma2": "google-gemma-2-2b-it",
    "phi3_plain": "microsoft-Phi-3.5-mini-instruct", "ministral3": "Mistral-Small-3.2-24B-Instruct-2506",
    "mistral_layer_types": "mistralai-Mistral-Nemo-Instruct-2407",
}  # fmt: skip
THINKING = {"smollm3": "enable_thinking", "qwen3": "enable_thinking", "qwen3_moe": "enable_thinking", "granite": "thinking"}


@pytest.mark.parametrize("think", [None, "on", "off"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_is_what_the_family_s_template_writes(converted, tmp_path, name, think):
    oracle = pytest.importorskip("jinja_oracle")
    template = DATA_DIR / "templates" / f"{TEMPLATES[name]}.jinja"
    if not template.exists():
        pytest.skip(f"{template} is absent")
    if think and name not in THINKING:
        pytest.skip(f"{TEMPLATES[name]} has no thoughts")
    source = template.read_text(encoding="utf-8")
    folder = sources.write_folder(tmp_path / name, sources.FAMILIES[name], chat_template=source)
    path = convert(folder, tmp_path / "chat.bin", "--type", "q8")
    options = ["--chat", "-i", "What is 2 + 2?", "--date", "2026-02-03", *(["--think", think] if think else [])]
    context = {"messages": [{"role": "user", "content": "What is 2 + 2?"}], "bos_token": "<|im_start|>",
               "eos_token": "<|im_end|>", "add_generation_prompt": True, "tools": None}  # fmt: skip
    if think:
        context[THINKING[name]] = think == "on"
    written = oracle.expected(source, context)
    assert written.kind == "text", written
    shown = run(path, "--tokenize", *options).ok().out.split()
    expected = []
    for part in re.split(r"(<\|im_start\|>|<\|im_end\|>)", written.text):
        special = {"<|im_start|>": [256], "<|im_end|>": [257]}
        expected += special[part] if part in special else list(part.encode())
    assert [int(token) for token in shown] == expected
