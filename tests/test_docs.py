"""The documentation is true: its commands run, its links work, its fields are those that the program has, and its tables
and pictures agree with the sources."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BUILD_DIR, EMULATOR, EXECUTABLE, ROOT, TIMEOUT, environment, execute, run
from test_layers import HOUSE

import chat_templates
import manual
import native_models

sys.path.append(str(ROOT / "scripts"))
import make_manual  # noqa: E402

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "models").glob("*.md")])
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [(page, block) for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
MANUALS = ["run.1", "completions/run.bash", "completions/_run", "completions/run.fish"]
# Commands that a test cannot run, and why.
NOT_HERE = {"make test": "runs this test", "make smollm2": "fetches a package of 100 MB"}
ROOMS = {row.strip("/") for row in HOUSE if row.endswith("/")}


def name(value):
    return str(value.relative_to(ROOT)) if hasattr(value, "relative_to") else value.splitlines()[0][:60]


def skip_without_tools(command):
    for tool in ("flock", "jq"):
        if re.search(rf"\b{tool}\b", command) and not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the tree to run the commands in, with the default build only, and without what a clone does not have but a
    model to chat with."""
    if BUILD_DIR != ROOT / "build":
        pytest.skip("the documentation is about the default build")
    folder = tmp_path_factory.mktemp("docs") / "clone"

    def left_out(directory, names):
        # In build/, a folder that is none of the tree's rooms is another build.
        other_build = Path(directory) == BUILD_DIR and {n for n in names if (BUILD_DIR / n).is_dir() and not (ROOT / n).is_dir()}
        return [n for n in names if n in (other_build or ()) or n == ".git" or n.startswith(".venv")
                or (n.endswith(".bin") and n != "stories.bin")]  # fmt: skip

    shutil.copytree(ROOT, folder, ignore=left_out)
    # In place of the model that takes 100 MB to fetch, one that chats about nothing.
    stand_in = native_models.chatting(chat_templates.CHATML, ["<|im_start|>", "<|im_end|>"], [])
    (folder / "models/smollm2-135m.bin").write_bytes(stand_in.pack())
    return folder


@pytest.fixture(scope="module")
def targets():
    """The targets that `make help` lists."""
    done = subprocess.run(["make", "-s", "help"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return set(re.findall(r"^([\w-]+):", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_targets_of_make_that_the_documentation_names_exist(page, targets):
    named = set(re.findall(r"`make ([a-z][\w-]*)", page.read_text(encoding="utf-8")))
    assert named <= targets, f"{page.name} names {sorted(named - targets)}, expected targets of `make help`: {sorted(targets)}"


@pytest.mark.parametrize("page, block", BLOCKS, ids=name)
def test_commands_of_the_documentation_run(copy, page, block):
    for command, why in NOT_HERE.items():
        if block.startswith(command):
            pytest.skip(f"{command}: {why}")
    skip_without_tools(block)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=copy, env=environment(), timeout=300,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == 0, f"{page.name}:\n{block}exit {done.returncode}:\n{done.stdout.decode()[-2000:]}"


def test_commands_for_users_of_llama2c_run(copy, tiny):
    """On a small checkpoint under the names that the page uses."""
    shutil.copy2(tiny.path, copy / "stories15M.bin")
    shutil.copy2(tiny.tokenizer, copy / "tokenizer.bin")
    page = (ROOT / "docs/from-llama2c.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    (.+)$", page, re.MULTILINE)
    assert len(commands) == 2, commands
    for command in commands:
        done = execute(["bash", "-c", command], cwd=copy, timeout=120)
        assert done.code == 0, f"expected exit 0\n{done}"
    run(copy / "stories15M-q8.bin", "-i", "a", "-n", 3).ok()


def test_readme_has_the_commands_of_a_newcomer():
    commands = [block.strip() for page, block in BLOCKS if page.name == "README.md"]
    assert commands[:2] == ["make demo", "make test"], commands


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing, f"{page.name} links to {missing}"


def test_manual_and_completions_are_those_of_help(tmp_path):
    subprocess.run([sys.executable, ROOT / "scripts/make_manual.py", "--run", EXECUTABLE, "--to", tmp_path], check=True)
    for path in MANUALS:
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), f"{path} is out of date: run scripts/make_manual.py"


def test_help_lists_the_options_that_the_sources_have():
    table = re.findall(r"^    \{(?:0|'\w'), \"([\w-]+)\"", (ROOT / "options.c").read_text(), re.MULTILINE)
    assert len(table) > 30 and table == re.findall(r"^  .{4}--([\w-]+)", run("--help").ok().out, re.MULTILINE)


@pytest.mark.parametrize("option", make_manual.CHOICES)
def test_words_that_shells_complete_are_those_that_the_option_takes(option):
    words, help_line = make_manual.CHOICES[option], re.search(rf"--{option} .*", run("--help").ok().out)[0]
    assert all(re.search(rf"\b{word}\b", help_line) for word in words), (words, help_line)
    for word in words:
        done = run("models/stories.bin", "--info", f"--{option}", word, cwd=ROOT)
        elsewhere = option == "simd" and "of this processor" in done.err or "expected --chat" in done.err
        refused = f"--{option}" in done.err and not elsewhere
        assert not refused, f"{word} is not a value of --{option}\n{done}"


# ----------------------------------------------------------------------------------------------------------------------
# The man page.


@pytest.fixture(scope="module")
def talker(workdir):
    """A model of random weights with a chat template that thinks and tells the date, and all recommended values. Context
    64."""
    path = workdir / "manual-chat.bin"
    sampling = {"temperature": 1, "top_p": 0.9, "top_k": 40, "min_p": 0.01, "repeat_penalty": 1.1, "repeat_last_n": 64,
                "presence_penalty": 0.1, "frequency_penalty": 0.1}  # fmt: skip
    chat = native_models.CHAT + "{{ strftime_now('%Y') }}{% if add_generation_prompt and not brief %}<think>{% endif %}{# </think> #}"
    path.write_bytes(native_models.tiny(chat=chat, sampling=sampling).pack())
    return path


def printed(model, *options, stdin=b"", code=0):
    """The fields of all lines of JSON that a run prints."""
    done = run(model, *options, stdin=stdin)
    assert done.code == code, f"expected exit {code}\n{done}"
    return set().union(*(manual.paths(json.loads(line)) for line in done.out.splitlines()))


def batch_fields(model, openai):
    """The fields of results of both formats, of requests that succeed and that fail."""
    body = {"prompt": "a", "logprobs": 1}
    chat = {"messages": [{"role": "user", "content": "a"}], "logprobs": True, "top_logprobs": 1}
    answers = chat | {"chat_template_kwargs": {"brief": True}}  # without a thought
    envelope = {"custom_id": "1", "method": "POST"}
    choice = {"prompt": "a", "guided_choice": ["b"], "ignore_eos": False}
    ours = [body, chat, choice, {"prompt": "a", "n": 2}, {"prompt": 1}, []]
    theirs = [envelope | {"url": "/v1/completions", "body": body}, envelope | {"url": "/v1/chat/completions", "body": chat},
              envelope | {"url": "/v1/chat/completions", "body": answers},
              envelope | {"url": "/v1/completions", "body": choice}, envelope | {"url": "/v1/other", "body": body}]  # fmt: skip
    lines = "".join(json.dumps(request) + "\n" for request in (theirs if openai else ours))
    found = printed(model, "-b", "-", "-n", 3, "--ignore-eos", stdin=lines.encode(), code=1)
    return {path for path in found if ".top_logprobs[]." not in path or ".content[]." in path}  # else tokens are the names


# What prints the JSON of each section. That of --bench is in test_bench.py, which has its output.
JSON = {
    "--json: text, chat and each answer of a conversation": lambda model: (
        printed(model, "-i", "a", "-n", 3, "--ignore-eos", "--json", "--logprobs", 2)
        | printed(model, "-i", "a", "-n", 3, "-s", 1, "--ignore-eos", "--json", "--chat")
        | printed(model, "-i", "a", "--json", "--choice", "b", "--choice", "c")),
    "--tokenize --json, also with --chat": lambda model: (
        printed(model, "-i", "ab", "--tokenize", "--json") | printed(model, "-i", "ab", "--tokenize", "--chat", "--json")),
    "--score --json": lambda model: printed(model, "-i", "abc", "--score", "--json"),
    "--info --json": lambda model: printed(model, "--info", "--json"),
    "--bench --json": None,
    "Batch: results of plain objects and lines": lambda model: batch_fields(model, openai=False),
    "Batch: results of OpenAI's format": lambda model: batch_fields(model, openai=True),
}  # fmt: skip


def test_manual_has_a_section_for_the_json_of_each_mode():
    assert manual.json_sections() == list(JSON)


@pytest.mark.parametrize("section", [title for title in JSON if JSON[title]])
def test_json_fields_of_the_manual_are_those_that_are_printed(talker, section):
    named, found = manual.fields(section), JSON[section](talker)
    assert len(set(named)) == len(named) and set(named) == found, set(named) ^ found


def test_fields_of_requests_in_the_manual_are_those_that_the_sources_have():
    options = re.findall(r"\.fields = \{(.*?)\}", (ROOT / "options.c").read_text())
    sources = re.findall(r'"(\w+)"', " ".join(options))
    sources += re.findall(r'^    \{\.name = "(\w+)"', (ROOT / "batch/request.c").read_text(), re.MULTILINE)
    sources += ["prompt", "messages", "id", "custom_id", "method", "url", "body"]
    assert len(sources) > 30 and sorted(manual.fields("Fields of a request")) == sorted(sources)


@pytest.mark.parametrize("example", manual.examples(), ids=lambda example: example.splitlines()[0][:60])
def test_examples_of_the_manual_run(tmp_path, talker, example):
    """In a home with the files that they name. Of a line for crontab, the command."""
    command = re.sub(r"^(?:[\d*]+ ){5}", "", example)
    skip_without_tools(command)
    for folder in ("bin", ".local/bin"):  # where PATH leads, and where cron's does not
        program = tmp_path / folder / "run"
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nexec {" ".join([*EMULATOR, str(EXECUTABLE)])} "$@"\n')
        program.chmod(0o755)
    shutil.copy2(ROOT / "models/stories.bin", tmp_path)
    shutil.copy2(talker, tmp_path / "model.bin")
    (tmp_path / "report.txt").write_text("A long report. " * 20)
    turns = [{"role": role, "content": "a"} for role in ("user", "assistant")]
    (tmp_path / "chat.json").write_text(json.dumps({"messages": turns}) + "\n")
    (tmp_path / "requests.jsonl").write_text('{"prompt": "a", "max_tokens": 3}\n' * 3)
    env = environment({"HOME": str(tmp_path), "PATH": f"{tmp_path / 'bin'}:{environment()['PATH']}"})
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, env=env, timeout=TIMEOUT,
                          stdin=subprocess.DEVNULL, capture_output=True)  # fmt: skip
    assert done.returncode == 0, done


def test_install_puts_the_documents_and_completions_where_readers_and_shells_look_and_uninstall_takes_them_away(tmp_path):
    if BUILD_DIR != ROOT / "build":
        pytest.skip("install is of the default build")
    subprocess.run(["make", "-s", "install", f"DESTDIR={tmp_path}", "PREFIX=/p"], cwd=ROOT, check=True)
    found = {str(p.relative_to(tmp_path / "p")) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {
        "bin/run", "share/man/man1/run.1", "share/bash-completion/completions/run",
        "share/zsh/site-functions/_run", "share/fish/vendor_completions.d/run.fish",
    } | {f"share/doc/run/{page.name}" for page in (ROOT / "docs").glob("*.md")}  # fmt: skip
    subprocess.run(["make", "-s", "uninstall", f"DESTDIR={tmp_path}", "PREFIX=/p"], cwd=ROOT, check=True)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()] and not (tmp_path / "p/share/doc/run").exists()


def house_in_contributing():
    """The rows of CONTRIBUTING's table of the house: [(row, the rows that it may include)]."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = page.split("| room | job | may include |\n|---|---|---|\n")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [(row.strip("`"), re.findall(r"`([^`]+)`", allowed) or [allowed]) for row, _, allowed in cells]


def test_table_of_the_house_in_contributing_is_the_one_that_the_test_of_includes_checks():
    words = {"*": ["everything"], "": ["-"]}
    assert house_in_contributing() == [(row, words.get(below, below.split())) for row, (_, below) in HOUSE.items()]


def test_map_in_the_readme_has_the_rows_of_the_house():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    table = page.split("| room | job |\n|---|---|\n")[1].split("\n\n")[0]
    rows = [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in table.splitlines()]
    assert [row for names in rows for row in names] == list(HOUSE)


@pytest.mark.parametrize("script, picture", [("make_house.py", "house.svg"), ("make_roofline.py", "roofline.svg")])
def test_picture_is_the_one_that_its_script_draws_now(tmp_path, script, picture):
    subprocess.run([sys.executable, ROOT / "scripts" / script, tmp_path / picture], check=True)
    drawn, committed = (folder.joinpath(picture).read_text(encoding="utf-8") for folder in (tmp_path, ROOT / "docs"))
    assert drawn == committed, f"docs/{picture} is out of date: run scripts/{script}"
