#!/usr/bin/env python3
"""Converts a Hugging Face folder to a native checkpoint (docs/format.md).

    scripts/convert.py FOLDER OUT --type q4

FOLDER has config.json, safetensors files, and tokenizer.json or tokenizer.model. They are read with the packages made for
them and written to a temporary file beside OUT, whose matrices are still row by row and in their own types; it is as large
as the folder's weights. `run --convert` makes OUT of that file: it packs and quantises the weights, and replaces OUT when
everything is written. GGUF files and llama2.c checkpoints need no script: `./run MODEL --convert OUT`.

Needs scripts/requirements.txt, and the program to be built. Exit status: 2 for a usage error, 3 for an unusable source,
1 if writing fails.
"""

import argparse
import errno
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import checkpoint
import sampling

MISSING = None  # a package that is not installed; --help works without it
try:
    import source_huggingface
    import vocabulary
    from source import Source, SourceError, refuse_pointer
    from tqdm import tqdm
except ModuleNotFoundError as error:
    MISSING = error.name

CONVERTER = "convert.py 2"
TYPES = ("f32", "bf16", "f16", "q8", "q4", "q4m", "q4t", "q5", "q5m")  # those of run --type
PROGRAM = Path(__file__).resolve().parent.parent / "run"


def parse_arguments():
    parser = argparse.ArgumentParser(prog="convert", description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path, metavar="FOLDER", help="Hugging Face folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="the checkpoint to write")
    parser.add_argument("--type", choices=TYPES, help="weight type of the matrices; default: q8")
    parser.add_argument("--head-type", choices=TYPES,
                        help="weight type of embedding and lm_head; default: that of --type, or q8 if that has 4 or 5 bits")  # fmt: skip
    parser.add_argument("--calibrate", type=Path, metavar="FILE",
                        help="a text: it is run through the model to see which weights matter")  # fmt: skip
    parser.add_argument("--vocab-only", action="store_true", help="only the vocabulary, without weights, for --tokenize")
    parser.add_argument("--set", type=sampling.assignment, action="append", default=[], metavar="NAME=VALUE",
                        help="recommended value of sampling, before that of the folder; may be repeated. Names: "
                             + ", ".join(sampling.LIMITS))  # fmt: skip
    parser.add_argument("--run", type=Path, default=PROGRAM, metavar="PROGRAM",
                        help="the program that makes the checkpoint; default: %(default)s")  # fmt: skip
    args = parser.parse_args()
    if args.vocab_only and (args.type or args.head_type or args.calibrate or args.set):
        parser.error("--vocab-only writes no weights: it cannot be used with --type, --head-type, --calibrate or --set")
    return args


def check_source(args):
    """Refuses what is no folder by what it is."""
    path = args.source
    if path.is_dir():
        return
    try:
        refuse_pointer(path)
        with open(path, "rb"):
            pass
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
    if path.suffix in (".safetensors", ".json", ".model"):
        raise SourceError(f"{path}: is one file of a model, expected the folder")
    raise SourceError(
        f"{path}: is not a Hugging Face folder; GGUF files, llama2.c and native checkpoints are converted by "
        f"the program itself: {args.run} {path} --convert {args.out}"
    )


def check_tensors(source):
    """Checks that the source has exactly the tensors that its shape requires."""
    expected = {name: (rows or 1, cols) for name, rows, cols in checkpoint.model_tensors(source.config)}
    for name, (rows, cols) in expected.items():
        tensor = source.tensors.get(name)
        if tensor is None:
            raise SourceError(f"{source.path}: tensor {name} is missing")
        if (tensor.all_rows, tensor.cols) != (rows, cols):
            raise SourceError(
                f"{source.path}: tensor {tensor.name} has {tensor.all_rows} x {tensor.cols} values, expected {rows} x {cols}"
            )
    for name in source.tensors.keys() - expected.keys():
        raise SourceError(f"{source.path}: tensor {source.tensors[name].name} has no place in a model of this shape")


def read_source(args):
    """The model's Source and its Vocabulary."""
    if args.vocab_only:
        words = vocabulary.read_vocabulary(args.source)
        return Source(args.source, checkpoint.Config(vocab_size=len(words.pieces), vocab_only=True)), words
    source = source_huggingface.read(args.source)
    check_tensors(source)
    return source, vocabulary.read_vocabulary(args.source)


# ----------------------------------------------------------------------------------------------------------------------
# The temporary file


def provenance(args, source):
    """The provenance section: lines of text. A value from the source cannot start a new line."""
    heads = {t.type for name, t in source.tensors.items() if name in ("embedding", "head")}
    types = {t.type for name, t in source.tensors.items() if name.endswith("_proj")}
    lines = {
        "license": source.license,
        "source": args.source.resolve().name,
        "type": "+".join(sorted(types)) or "none",
        "head_type": "+".join(sorted(heads)) or "none",
        "converter": CONVERTER,
    }
    return "".join(f"{key}: {' '.join(str(value).split())}\n" for key, value in lines.items()).encode("utf-8")


def recommended(args, source):
    """{name: value} of sampling that the source recommends, except for those that --set replaces."""
    values = {}
    for name, field, value in source.recommended:
        if name in dict(args.set):
            continue
        if not sampling.is_valid(name, value):
            raise SourceError(
                f"{source.recommended_in}: {field} is {str(value)[:100]!r}, expected {sampling.expected(name)} "
                f"(--set {name}=VALUE sets another)"
            )
        values[name] = value
    return values


def chat_section(args, words, folder):
    """The chat section, which is the template's source; None if there is none, or the program cannot read it."""
    if not words.chat_template:
        return None
    source = words.chat_template.encode("utf-8")
    contents = {
        "config": checkpoint.Config(vocab_size=len(words.pieces), vocab_only=True).section(),
        "tokenizer": words.section(),
        "chat": source,
    }
    path = folder / "chat.bin"
    write(path, [checkpoint.bytes_section(n, len(data)) for n, data in contents.items()], lambda s: [contents[s.name]])
    done = subprocess.run([args.run.absolute(), path, "--verify"], stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode == 0:
        return source
    said = done.stderr.decode("utf-8", "replace").strip() or f"{args.run} ended with status {done.returncode}"
    reason = said.removeprefix("run: ").replace(str(path), "chat template")
    print(f"convert: {args.source}: no chat section, its chat template cannot be used: {reason}", file=sys.stderr)
    return None


def write(path, sections, pieces):
    """Writes a native file; pieces(section) are the bytes of a section."""
    with checkpoint.Writer(path, sections) as writer:
        for section in sections:
            writer.write(section.name, pieces(section))


def write_rows(args, source, words, path):
    """Writes the model as a native file whose matrices are row by row, as the source has them."""
    config, contents = source.config, {}
    contents["config"] = config.section(recommended(args, source))
    contents["provenance"] = provenance(args, source)
    contents["tokenizer"] = words.section(config.vocab_size)
    chat = chat_section(args, words, path.parent)
    if chat:
        contents["chat"] = chat
    sections = [checkpoint.bytes_section(name, len(data)) for name, data in contents.items()]
    for name, rows, cols in checkpoint.model_tensors(config) if not config.vocab_only else ():
        if rows is None:
            sections.append(checkpoint.vector_section(name, cols))
        else:
            sections.append(checkpoint.rows_section(name, source.tensors[name].type, rows, cols))

    def pieces(section):
        if section.kind == checkpoint.BYTES:
            return [contents[section.name]]
        tensor = source.tensors[section.name]
        if section.kind == checkpoint.ROWS:
            return counted(tensor.pieces(), progress)
        values = tensor.vector().tobytes()
        return [values, bytes(section.size - len(values))]

    total = sum(section.size for section in sections if section.kind == checkpoint.ROWS)
    hidden = not sys.stderr.isatty()
    with tqdm(total=total, desc="copying weights", unit="B", unit_scale=True, leave=False, disable=hidden) as progress:
        write(path, sections, pieces)


def counted(pieces, progress):
    for piece in pieces:
        yield piece
        progress.update(len(piece))


@contextmanager
def step(text):
    """Shows on a terminal what takes a while."""
    shown = sys.stderr.isatty()
    if shown:
        print(f"{text} ..", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# ----------------------------------------------------------------------------------------------------------------------
# Handing over


def hand_over(args, path):
    """Has the program make OUT of the temporary file; returns its exit status. It runs in the temporary file's folder, so
    that its messages call the model by the name of the source. If this process is to end, the program ends first."""
    command = [args.run.absolute(), f"./{path.name}", "--convert", args.out.absolute()]
    if not args.vocab_only:
        command += ["--type", args.type or "q8"]
    if args.head_type:
        command += ["--head-type", args.head_type]
    if args.calibrate:
        command += ["--calibrate", args.calibrate.absolute()]
    for name, value in args.set:
        command += ["--set", f"{name}={value:.17g}"]
    program = stopped = None

    def stop(number, frame):  # also called while the program is being started
        nonlocal stopped
        stopped = number
        if program:
            program.terminate()

    catch_signals(stop)
    with subprocess.Popen(command, cwd=path.parent, stdin=subprocess.DEVNULL) as program:
        if stopped:
            program.terminate()
        status = program.wait()
    if stopped:
        return 128 + stopped
    if status < 0:
        print(f"convert: {args.out}: {args.run} was ended by {signal.Signals(-status).name}", file=sys.stderr)
    return status if status >= 0 else 1


def catch_signals(handler):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, handler)


@contextmanager
def temporary_folder(args):
    """A folder beside OUT, which is removed in the end."""
    try:
        if args.out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = tempfile.TemporaryDirectory(prefix=f".{args.out.name}.", dir=args.out.parent)
    except OSError as error:  # about the file that the user named
        raise OSError(error.errno, error.strerror, str(args.out)) from None
    with folder as path:
        yield Path(path)


def convert(args):
    check_source(args)
    if not args.run.exists():
        raise OSError(errno.ENOENT, "is not there; `make` builds the program, which makes the checkpoint", str(args.run))
    with step("reading shape and vocabulary"):
        source, words = read_source(args)
    with temporary_folder(args) as folder:
        path = folder / (args.source.resolve().name or "model")
        write_rows(args, source, words, path)
        return hand_over(args, path)


def main():
    args = parse_arguments()
    if MISSING:
        print(f"convert: {MISSING} is not installed: run `make converter`, then .venv-convert/bin/python scripts/convert.py",
              file=sys.stderr)  # fmt: skip
        return 1
    catch_signals(lambda number, frame: sys.exit(128 + number))  # the temporary file is removed
    try:
        return convert(args)
    except (SourceError, vocabulary.VocabularyError) as error:
        print(f"convert: {' '.join(str(error).split())}", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"convert: {error.filename2 or error.filename or args.out}: {error.strerror}", file=sys.stderr)
        return 3 if error.filename and Path(error.filename).is_relative_to(args.source) else 1


if __name__ == "__main__":
    sys.exit(main())
