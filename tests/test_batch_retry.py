"""--retry: requests whose result is an error are run again, and the results file is replaced as a whole: no kill, fault or
wrong option loses or changes a result. A test's name is the promise that it pins."""

import json
import random
import resource
import signal
import stat
import time

import pytest
from conftest import assert_refused, finish, limited, not_under_tsan, run, start
from test_batch import KILLS, batch, long, requests_of, results_bytes, statistics, write_lines  # noqa: F401
from test_faults import faults  # noqa: F401

RETRY = ("--resume", "--retry")


class Case:
    """Requests, with blank lines among them, of which those in `wrong` have failed: `want` are the results of the right
    ones, `had` those that are in the results file."""

    def __init__(self, model, folder, count, wrong, seed=1):
        self.model, self.requests, self.results = model, folder / "requests.jsonl", folder / "results.jsonl"
        self.retrying = folder / "results.jsonl.retrying"
        self.right = [line for i, line in enumerate(requests_of(count, seed)) for line in ([line, ""] if i % 3 else [line])]
        self.place = [i for i, line in enumerate(self.right) if line]  # of each request among the lines
        self.wrong = list(self.right)
        for i, line in wrong.items():
            self.wrong[self.place[i]] = line
        self.want = results_bytes(model, write_lines(folder / "right", self.right), folder / "want")
        write_lines(self.requests, self.wrong)
        self.had = results_bytes(model, self.requests, self.results, code=1)

    def correct(self):
        write_lines(self.requests, self.right)
        return self

    def retry(self, *options, code=0, **popen):
        got = results_bytes(self.model, self.requests, self.results, *RETRY, *options, code=code, **popen)
        assert not self.retrying.exists(), "the other file was left"
        return got


WRONG = {0: "{", 3: '{"prompt": 7}', 4: '{"custom_id": "x", "url": "/v1/completions", "body": {"prompt": "a", "n": 99}}',
         10: '{"messages": []}', 14: "[]"}  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--parallel", "1"), ("--parallel", "3", "--chunk", "5")])
def test_corrected_lines_are_run_again_and_their_results_take_the_place_of_the_errors(tiny, tmp_path, options):
    case = Case(tiny, tmp_path, 15, WRONG)
    assert case.had.count(b'"error": {') == len(WRONG)
    assert case.correct().retry(*options) == case.want


def test_requests_that_follow_are_run_after_the_retry(tiny, tmp_path):
    case = Case(tiny, tmp_path, 9, {4: "{"})
    lines = case.right + requests_of(7, 2)
    want = results_bytes(tiny, write_lines(tmp_path / "more", lines), tmp_path / "want-more")
    write_lines(case.requests, lines)
    assert case.retry() == want


def test_requests_that_fail_again_stay_errors(tiny, tmp_path):
    case = Case(tiny, tmp_path, 9, {0: "{", 4: '{"prompt": 7}'})
    assert case.retry(code=1) == case.had
    case.right[case.place[4]] = '{"prompt": 8}'
    case.correct()
    done = run(*tiny, "-b", case.requests, "-o", case.results, *RETRY, "--stats")
    assert done.code == 1 and "1 of 9 requests failed, the first in line 7" in done.err, done
    assert statistics(done, "kept") == 7
    got, want = case.results.read_bytes().splitlines(), case.want.splitlines()
    differ = [i for i in range(9) if got[i] != want[i]]
    assert len(differ) == 1 and b"prompt is 8" in got[differ[0]]


def test_an_error_whose_line_is_blank_by_now_is_left_out(tiny, tmp_path):
    case = Case(tiny, tmp_path, 9, {i: "{" for i in (0, 4, 5, 8)})
    for i in (0, 4, 5, 8):
        case.right[case.place[i]] = " "
    want = results_bytes(tiny, write_lines(tmp_path / "blanks", case.right), tmp_path / "want-blanks")
    assert case.correct().retry() == want
    assert len(want.splitlines()) == len(case.had.splitlines()) - 4


def test_results_without_an_error_are_not_written_anew(tiny, tmp_path):
    case = Case(tiny, tmp_path, 5, {2: "{"}).correct()
    case.retry()
    before = case.results.stat().st_ino
    assert case.retry() == case.want and case.results.stat().st_ino == before
    case.results.unlink()
    assert case.retry() == case.want


def test_a_corrected_line_without_retry_is_refused_with_a_word_about_it(tiny, tmp_path):
    case = Case(tiny, tmp_path, 5, {2: "{"}).correct()
    done = run(*tiny, "-b", case.requests, "-o", case.results, "--resume")
    assert_refused(done, 3, "results.jsonl: line 3 is not the result of line 4", "it is an error; --retry runs the line again")
    assert case.results.read_bytes() == case.had


@pytest.mark.parametrize("first", [0, 2])
def test_results_of_other_requests_or_options_are_refused_and_nothing_is_changed(tiny, tmp_path, first):
    case = Case(tiny, tmp_path, 9, {first: "{"}).correct()
    arguments = ["-b", case.requests, "-o", case.results, *RETRY]
    assert_refused(run(*tiny, *arguments, "-s", 3), 3, "results.jsonl", "is not the result of")
    assert case.results.read_bytes() == case.had
    changed = [*case.right[: case.place[7]], '{"prompt": "changed"}', *case.right[case.place[7] + 1 :]]
    for lines in (case.right[:5], changed, ["", *case.right]):
        write_lines(case.requests, lines)
        assert_refused(run(*tiny, *arguments), 3, "results.jsonl", "is not the result of")
        assert case.results.read_bytes() == case.had
    assert case.correct().retry() == case.want


def test_a_retry_refuses_texts_of_another_model_though_the_requests_have_ids_of_their_own(tiny, chain, tmp_path):
    path, out = tmp_path / "q", tmp_path / "results.jsonl"
    write_lines(path, ['{"id": "a", "prompt": 7}', '{"id": "b", "prompt": "the"}'])
    had = results_bytes(tiny, path, out, code=1)
    write_lines(path, ['{"id": "a", "prompt": "one"}', '{"id": "b", "prompt": "the"}'])
    done = run(*chain([b"one", b" two"]), "-b", path, "-o", out, *RETRY)
    assert_refused(done, 3, "results.jsonl: line 2 is not the result of line 2 of", "with this model and these options")
    assert out.read_bytes() == had


def test_pieces_can_be_retried(tiny, tmp_path):
    lines = requests_of(6)
    want = results_bytes(tiny, write_lines(tmp_path / "right", lines), tmp_path / "want", "--first-line", 1001)
    path, out = write_lines(tmp_path / "q", [*lines[:4], "{", lines[5]]), tmp_path / "r"
    results_bytes(tiny, path, out, "--first-line", 1001, code=1)
    write_lines(path, lines)
    assert results_bytes(tiny, path, out, *RETRY, "--first-line", 1001) == want


def test_requests_may_come_through_a_pipe(tiny, tmp_path):
    case = Case(tiny, tmp_path, 9, {1: "{", 7: "{"}).correct()
    run(*tiny, "-b", "-", "-o", case.results, *RETRY, stdin=case.requests.read_bytes()).ok()
    assert case.results.read_bytes() == case.want


def test_a_link_to_the_results_stays_a_link_and_their_mode_stays(tiny, tmp_path):
    case = Case(tiny, tmp_path, 5, {2: "{"}).correct()
    case.results.chmod(0o640)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link.jsonl"
    link.symlink_to("../results.jsonl")
    assert results_bytes(tiny, case.requests, link, *RETRY) == case.want
    assert link.is_symlink() and case.results.read_bytes() == case.want
    assert stat.S_IMODE(case.results.stat().st_mode) == 0o640
    assert not case.retrying.exists() and [path.name for path in link.parent.iterdir()] == ["link.jsonl"]


# ----------------------------------------------------------------------------------------------------------------------
# A retry that was cut off.


def test_a_retry_goes_on_where_an_earlier_one_was_cut_off(tiny, tmp_path):
    case = Case(tiny, tmp_path, 12, {i: "{" for i in (3, 5, 8, 11)}).correct()
    for size in (0, 1, case.want.find(b"\n") + 1, len(case.want) // 2, len(case.want) - 1, len(case.want)):
        case.results.write_bytes(case.had)
        case.retrying.write_bytes(case.want[:size])
        done = run(*tiny, "-b", case.requests, "-o", case.results, *RETRY, "--stats").ok()
        assert case.results.read_bytes() == case.want, size
        errors = [i for i, line in enumerate(case.had.splitlines()) if b'"error": {' in line]
        redone = [i for i in errors if i < case.want[:size].count(b"\n")]
        assert statistics(done, "kept") == 12 - len(errors) + len(redone), (size, redone)
        assert not case.retrying.exists()


def test_what_an_earlier_retry_left_counts_only_if_it_is_of_these_requests(tiny, tmp_path):
    case = Case(tiny, tmp_path, 12, {i: "{" for i in (0, 5, 8)}).correct()
    lines = case.want.splitlines(keepends=True)
    other = [line.replace(b'"text": "', b'"text": "x') for line in lines]
    for left in (b"\n" * 30, b"".join(lines[1:]), b"x" * 99999, case.want + b"more\n", b"".join([*lines[:2], *other[2:]])):
        case.results.write_bytes(case.had)
        case.retrying.write_bytes(left)
        assert case.retry() == case.want, left[:300]


def test_what_a_retry_of_other_results_left_is_forgotten_when_new_ones_are_begun(tiny, tmp_path):
    path, out, left = tmp_path / "q", tmp_path / "r", tmp_path / "r.retrying"
    left.write_bytes(b"of an earlier batch\n")
    results_bytes(tiny, write_lines(path, ['{"prompt": "a"}']), out)
    assert not left.exists()


def test_the_other_file_is_not_written_through_a_link(tiny, tmp_path):
    case, precious = Case(tiny, tmp_path, 3, {0: "{"}).correct(), tmp_path / "precious"
    precious.write_bytes(b"precious")
    case.retrying.symlink_to(precious)
    assert_refused(run(*tiny, "-b", case.requests, "-o", case.results, *RETRY), 1, "results.jsonl.retrying")
    assert precious.read_bytes() == b"precious" and case.results.read_bytes() == case.had


def test_retries_killed_at_random_moments_lose_nothing(tiny, tmp_path):
    case = Case(tiny, tmp_path, 300, {i: "{" for i in range(0, 300, 7)}).correct()
    began = time.monotonic()
    assert case.retry() == case.want
    whole = time.monotonic() - began
    chance = random.Random(17)
    killed = 0
    for _ in range(20 * KILLS + 20):
        if killed >= KILLS:
            break
        case.results.write_bytes(case.had)
        for _ in range(3):
            process = start(*tiny, "-b", case.requests, "-o", case.results, *RETRY, "--parallel", chance.choice([1, 3, 16]))
            time.sleep(chance.uniform(0, 0.8 * whole))
            process.kill()
            killed += finish(process).code == -signal.SIGKILL
            assert case.results.read_bytes() in (case.had, case.want), "a result was lost, doubled or changed"
        assert case.retry() == case.want
    assert killed >= KILLS, f"{killed} of {KILLS} retries could be killed before they ended"


def test_an_interrupted_retry_leaves_the_results_and_says_how_it_goes_on(slow, tmp_path):
    """The first error is answered, the second is being answered when the signal comes."""
    path, out, left = tmp_path / "q", tmp_path / "results.jsonl", tmp_path / "results.jsonl.retrying"
    short, endless = ({"prompt": "a", "max_tokens": n, "ignore_eos": True} for n in (1, 4000))
    write_lines(path, [json.dumps(short), "{", json.dumps(short), "{"])
    had = results_bytes(slow, path, out, code=1)
    write_lines(path, [json.dumps(short), json.dumps(short), json.dumps(short), json.dumps(endless)])
    process = start(*slow, "-b", path, "-o", out, *RETRY)
    while not (left.exists() and left.read_bytes().count(b"\n") == 3):
        assert process.poll() is None, finish(process)
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    assert done.code == 143 and "--resume --retry continues it" in done.err, done
    assert out.read_bytes() == had
    write_lines(path, [json.dumps(short)] * 4)
    done = run(*slow, "-b", path, "-o", out, *RETRY, "--stats").ok()
    assert statistics(done, "kept") == 3 and not left.exists(), done
    assert out.read_bytes() == results_bytes(slow, path, tmp_path / "want")


def test_a_retry_loses_nothing_by_any_call_that_fails(faults, long, tmp_path):  # noqa: F811
    """The n-th open, read, write, sync or rename fails, for every n, and every third allocation; then the retry is done
    again."""
    case = Case(long, tmp_path, 6, {1: "{", 4: "{"}).correct()
    tried = 0
    for call in ("memory", "open", "read", "write", "fsync", "rename"):
        for n in range(1, 400, 3 if call == "memory" else 1):
            case.results.write_bytes(case.had)
            case.retrying.unlink(missing_ok=True)
            env = {"LD_PRELOAD": faults, "FAULT": f"{call} {n} once", "OMP_NUM_THREADS": "1"}
            done = run(*long, "-b", case.requests, "-o", case.results, *RETRY, "-j", 1, "--parallel", 2, env=env)
            done.command.insert(0, f"FAULT='{call} {n} once'")
            if "[no fault]" in done.err:
                break
            tried += 1
            # Exit 0: what failed was the default of a value that the request then set.
            assert len(done.err.splitlines()) == (1 if done.code in (1, 3) else 0), f"expected exit 1 or 3 and a line\n{done}"
            assert case.results.read_bytes() in ([case.had] if done.code else []) + [case.want], f"other results\n{done}"
            assert case.retry() == case.want, done
    assert tried > 30, f"only {tried} calls failed"


def test_retry_needs_resume(tiny, tmp_path):
    write_lines(tmp_path / "q", [])
    assert_refused(run(*tiny, "-b", tmp_path / "q", "-o", tmp_path / "r", "--retry"), 2, "--retry: expected --resume")
    assert_refused(run(*tiny, "--retry"), 2, "--retry: expected --batch")


@not_under_tsan
def test_a_retry_that_reaches_the_size_limit_leaves_the_results_and_can_go_on(tiny, tmp_path):
    case = Case(tiny, tmp_path, 6, {2: "{"}).correct()
    most = len(case.want) - 1
    done = limited(resource.RLIMIT_FSIZE, most, *tiny, "-b", case.requests, "-o", case.results, *RETRY)
    assert_refused(done, 1, "cannot be written: File too large",
                   f"; {case.results} is as it was, --resume --retry continues it")  # fmt: skip
    assert case.results.read_bytes() == case.had
    assert case.retry() == case.want
