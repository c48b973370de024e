"""-o, and output that cannot be written: a regular file is written whole or not at all, anything else in place."""

import json
import os
import resource
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest
from conftest import GREEDY, TIMEOUT, assert_refused, finish, not_under_tsan, run, start, wait_for_work


def listing(folder):
    return sorted(p.name for p in Path(folder).iterdir())


@pytest.mark.parametrize("options", [(), ("--json",), ("--tokenize",)])
def test_output_file_has_what_stdout_would_have(tiny, tmp_path, options):
    common = ("-i", "the", "-n", "9", *GREEDY, *options)
    expected = tiny.generate(*common).ok()
    done = tiny.generate(*common, "-o", tmp_path / "out.txt").ok()
    assert done.bytes == b"", f"expected nothing on stdout\n{done}"
    seen = (tmp_path / "out.txt").read_bytes()
    if "--json" in options:
        assert json.loads(seen)["text"] == expected.json["text"]
    else:
        assert seen == expected.bytes
    assert listing(tmp_path) == ["out.txt"], "a temporary file was left"


MODES = [("-i", "the", "-n", "9", *GREEDY), ("--tokenize", "-i", "the"), ("--score", "-i", "the rain"), ("--info",),
         ("-b", "-", "-n", "9", *GREEDY)]  # fmt: skip


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode[0])
def test_dash_is_standard_output_in_every_mode(tiny, tmp_path, mode):
    expected = tiny.generate(*mode, stdin=b'{"prompt": "the"}\n').ok().bytes
    assert expected
    done = tiny.generate(*mode, "-o", "-", stdin=b'{"prompt": "the"}\n', cwd=tmp_path).ok()
    assert done.bytes == expected, f"expected {expected!r} on stdout\n{done}"
    assert listing(tmp_path) == [], f"a file was made: {listing(tmp_path)}"


def test_output_file_replaces_an_older_one(tiny, tmp_path):
    (tmp_path / "out.txt").write_text("older and very much longer than what comes now" * 100)
    tiny.generate("-i", "the", "-n", "3", *GREEDY, "-o", tmp_path / "out.txt").ok()
    assert (tmp_path / "out.txt").read_text().startswith("the")
    assert listing(tmp_path) == ["out.txt"]


def test_new_output_file_has_the_usual_permissions(tiny, tmp_path):
    tiny.generate("-i", "the", "-n", "3", *GREEDY, "-o", tmp_path / "out.txt", umask=0o022).ok()
    assert oct((tmp_path / "out.txt").stat().st_mode & 0o777) == oct(0o644)


def test_output_file_may_be_named_without_a_folder(tiny, tmp_path):
    tiny.generate("-i", "the", "-n", "3", *GREEDY, "-o", "out.txt", cwd=tmp_path).ok()
    assert listing(tmp_path) == ["out.txt"]


def test_output_to_a_fifo_keeps_the_fifo(tiny, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    expected = tiny.generate("-i", "the", "-n", "3", *GREEDY).ok().bytes
    process = start(*tiny, "-i", "the", "-n", "3", *GREEDY, "-o", tmp_path / "fifo")
    # The program waits for a reader to open the FIFO. Not blocking: if it replaced the FIFO, nobody would ever write.
    fd = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        finish(process).ok()
        seen = os.read(fd, 65536)  # all of it is in the FIFO, which holds 64 KiB while it has a reader
    finally:
        os.close(fd)
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode), "the fifo was replaced"
    assert seen == expected, f"read {seen!r} from the fifo, expected {expected!r}"


def linked(folder, *, text):
    """Makes links to `text` in a folder, and that itself if it is not None. Returns the names that lead there."""
    if text is not None:
        (folder / "text").write_bytes(text)
    (folder / "below").mkdir()
    (folder / "link").symlink_to("text")
    (folder / "absolute").symlink_to(folder / "text")
    (folder / "below" / "chain").symlink_to("../link")
    return [folder / "link", folder / "absolute", folder / "below" / "chain"]


@pytest.mark.parametrize("old", [None, b"old"], ids=["dangling", "existing"])
@pytest.mark.parametrize("which", range(3), ids=["relative", "absolute", "chain"])
def test_output_goes_through_links_to_where_they_lead(tiny, tmp_path, old, which):
    link = linked(tmp_path, text=old)[which]
    leads_to = os.readlink(link)
    tiny.generate("-i", "the", "-n", "3", *GREEDY, "-o", link).ok()
    assert os.readlink(link) == leads_to, "the link was replaced"
    assert (tmp_path / "text").read_bytes().startswith(b"the")
    assert listing(tmp_path) == ["absolute", "below", "link", "text"] and listing(tmp_path / "below") == ["chain"]


@pytest.mark.parametrize("old", [None, b""], ids=["dangling", "existing"])
def test_results_of_a_batch_go_through_links_to_where_they_lead(tiny, tmp_path, old):
    link = linked(tmp_path, text=old)[2]
    request = (*tiny, "-b", "-", "-n", "3", "-o", link, *(("--resume",) if old is not None else ()))
    run(*request, stdin=b'{"prompt": "the"}\n').ok()
    assert link.is_symlink() and b'"text": "' in (tmp_path / "text").read_bytes()
    assert_refused(run(*tiny, "-b", "-", "-o", link, stdin=b"{}"), 2, "chain", "--resume")


def test_links_in_a_circle_are_refused(tiny, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    refused = tiny.generate("-i", "a", "-n", "1", *GREEDY, "-o", tmp_path / "a")
    assert_refused(refused, 1, "a", "ymbolic link")  # glibc: Too many levels of symbolic links; musl: Symbolic link loop
    assert listing(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode[0])
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "link"])
def test_a_name_of_standard_output_is_written_in_place_after_what_is_there(tiny, tmp_path, mode, name):
    """Where standard output is a file, /dev/stdout leads to that: it must neither be replaced nor written over."""
    (tmp_path / "link").symlink_to("/proc/self/fd/1")
    expected = tiny.generate(*mode, stdin=b'{"prompt": "the"}\n').ok().bytes
    with open(tmp_path / "text", "wb") as out:
        out.write(b"before ")
        out.flush()
        tiny.generate(*mode, "-o", name, stdin=b'{"prompt": "the"}\n', stdout=out, cwd=tmp_path).ok()
        out.write(b" after")
    assert (tmp_path / "text").read_bytes() == b"before " + expected + b" after"
    assert os.readlink(tmp_path / "link") == "/proc/self/fd/1" and listing(tmp_path) == ["link", "text"]


def test_output_to_a_descriptor_goes_where_that_leads(tiny, tmp_path):
    expected = tiny.generate("-i", "the", "-n", "3", *GREEDY).ok().bytes
    read, write = os.pipe()
    tiny.generate("-i", "the", "-n", "3", *GREEDY, "-o", f"/dev/fd/{write}", pass_fds=[write]).ok()
    os.close(write)
    assert os.read(read, 65536) == expected
    os.close(read)
    done = tiny.generate("-i", "a", "-n", "1", *GREEDY, "-o", "/dev/fd/99")
    assert_refused(done, 1, "/dev/fd/99", "Bad file descriptor")


def test_output_file_keeps_the_permissions_of_the_one_that_it_replaces(tiny, tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("older")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 2345)
    before = path.stat()
    tiny.generate("-i", "the", "-n", "3", *GREEDY, "-o", path).ok()
    after = path.stat()
    assert path.read_text().startswith("the")
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write any file")
def test_output_file_that_may_not_be_written_is_not_replaced(tiny, tmp_path):
    (tmp_path / "out.txt").write_text("older")
    (tmp_path / "out.txt").chmod(0o444)
    assert_refused(tiny.generate("-i", "a", "-n", "1", *GREEDY, "-o", tmp_path / "out.txt"), 1, "out.txt", "ermission")
    assert (tmp_path / "out.txt").read_text() == "older" and listing(tmp_path) == ["out.txt"]


def test_a_prompt_cache_goes_through_links_to_where_they_lead(stories, tmp_path):
    link, made = linked(tmp_path, text=None)[2], []
    for prompt in ("Once upon a time there was ", "A dog ran to the park. "):  # the second has no use for the first's
        stories.generate("-i", prompt * 20, "-n", "1", "--prompt-cache", link).ok()
        made.append((tmp_path / "text").read_bytes())
    assert made[0] != made[1]
    assert link.is_symlink() and (tmp_path / "text").read_bytes().startswith(b"\x89RUNkv")
    assert listing(tmp_path) == ["absolute", "below", "link", "text"] and listing(tmp_path / "below") == ["chain"]


def test_output_into_a_missing_folder_exits_1_and_names_it(tiny, tmp_path):
    assert_refused(tiny.generate("-i", "a", "-n", "1", *GREEDY, "-o", tmp_path / "no" / "out.txt"), 1, "out.txt")


def test_output_onto_a_folder_exits_1_and_names_it(tiny, tmp_path):
    (tmp_path / "folder").mkdir()
    assert_refused(tiny.generate("-i", "a", "-n", "1", *GREEDY, "-o", tmp_path / "folder"), 1, "folder")
    assert listing(tmp_path) == ["folder"]


@pytest.mark.parametrize("options", [(), ("--json",), ("--tokenize",)])
def test_full_disk_exits_1_and_says_so(tiny, options):
    with open("/dev/full", "wb") as full:
        done = tiny.generate("-i", "a", "-n", "5", *GREEDY, *options, stdout=full)
    assert done.code == 1, f"expected exit 1\n{done}"
    assert "No space left" in done.err.splitlines()[-1], f"expected the reason on stderr\n{done}"


def test_full_disk_exits_1_for_help():
    with open("/dev/full", "wb") as full:
        assert run("--help", stdout=full).code == 1


@not_under_tsan
def test_output_file_that_cannot_be_written_whole_leaves_the_older_one(tiny, tmp_path):
    (tmp_path / "out.txt").write_text("older")

    def no_file_beyond_64_kilobytes():  # less would stop OpenMP's own files
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    options = ("--tokenize", "-f", "-", "-o", tmp_path / "out.txt")
    done = tiny.generate(*options, stdin=b"an " * 50000, preexec_fn=no_file_beyond_64_kilobytes)
    assert done.code == 1 and "out.txt" in done.err, f"expected exit 1 and the file's name\n{done}"
    assert (tmp_path / "out.txt").read_text() == "older"
    assert listing(tmp_path) == ["out.txt"], "a temporary file was left"


def test_output_through_a_link_to_a_full_disk_exits_1(tiny, tmp_path):
    (tmp_path / "link").symlink_to("/dev/full")
    done = tiny.generate("-i", "a", "-n", "1", *GREEDY, "-o", tmp_path / "link")
    assert done.code == 1 and "link" in done.err, f"expected exit 1\n{done}"


def test_refused_run_makes_no_output_file(tiny, tmp_path):
    for args in (("-n", "x"), ("-z", "absent"), ("-f", "absent"), ("-c", "2", "-i", "the rain in the rain")):
        done = run(tiny.path, "-z", tiny.tokenizer, "-i", "a", "-o", tmp_path / "out.txt", *args)
        assert done.code in (2, 3), done
        assert listing(tmp_path) == [], f"{args} left {listing(tmp_path)}"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_output_file_of_an_interrupted_run_is_not_there_in_part(slow, tmp_path, how):
    process = start(*slow, "-i", "a", "-n", "0", "--ignore-eos", "-o", tmp_path / "out.txt")
    deadline = time.monotonic() + TIMEOUT
    while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)  # once the temporary file is there, it is at work
    wait_for_work(process)
    process.send_signal(how)
    done = finish(process)
    assert done.code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how], done
    assert not (tmp_path / "out.txt").exists(), "a part of the text is in the output file"
    if how != signal.SIGKILL:
        assert listing(tmp_path) == [], "a temporary file was left"
        assert f"{tmp_path / 'out.txt'}: interrupted, nothing was written" in done.err, done


@pytest.mark.parametrize("what", ["model", "tokenizer"])
def test_output_over_what_is_read_is_refused(tiny, tmp_path, what):
    files = {"model": tmp_path / "model.bin", "tokenizer": tmp_path / "tokenizer.bin"}
    shutil.copy(tiny.path, files["model"])
    shutil.copy(tiny.tokenizer, files["tokenizer"])
    (tmp_path / "link").symlink_to(files[what])
    before = files[what].read_bytes()
    for output in (files[what], tmp_path / "link"):
        done = run(files["model"], "-z", files["tokenizer"], "-i", "a", "-o", output)
        assert_refused(done, 2, f"--output {output}: is the {what}")
    assert files[what].read_bytes() == before
