"""Native checkpoints that cannot be used: each case is a small good model with one thing wrong. The checksum of header
and table is computed after the change, so that the change is refused and not the checksum.

Each case must end with exit 3, nothing on stdout, and one line on stderr that names the file and the culprit, within 5
seconds of processor time and 64 MB of memory beyond what the good model needs. CASES lists them all."""

import os
import struct
import subprocess
import threading

import numpy as np
import pytest
from conftest import EXECUTABLE, SANITIZED, SLOWER, TIMEOUT, Ran, assert_refused, environment

import native
import native_models

U32, U64 = 2**32 - 1, 2**64 - 1
MOST_SECONDS, MOST_KILOBYTES = 5.0 * SLOWER, 64 << 10
WRITER = native_models.tiny(chat=True, n_layers=1, flags=0)
GOOD = WRITER.pack()
PLACES, END = WRITER.places()
NAMES = [e["name"].decode() for e in WRITER.entries]
TENSORS = [name for name, e in zip(NAMES, WRITER.entries) if e["kind"]]


# ----------------------------------------------------------------------------------------------------------------------
# The cases: (name, what makes the file's bytes, what the message names).

CASES = []


def case(name, make, *named):
    CASES.append(pytest.param(make, named, id=name))


def with_header(**fields):
    return lambda: WRITER.pack(header=fields)


def with_entry(section, field, value):
    return lambda: WRITER.pack(entry={(section, field): value})


def with_bytes(at, values, crc=True):
    def make():
        data = bytearray(GOOD)
        data[at : at + len(values)] = values
        if crc:
            native.seal(data)
        return bytes(data)

    return make


def with_weight(section, index, value):
    at = PLACES[NAMES.index(section)][0] + 4 * index
    return with_bytes(at, struct.pack("<f", value), crc=False)


def header_cases():
    limits = {"dim": 1 << 20, "hidden_dim": 1 << 22, "n_layers": 1 << 12, "n_heads": 1 << 12, "n_kv_heads": 1 << 12,
              "head_dim": 1 << 12, "vocab_size": 1 << 24}  # fmt: skip
    for field, most in limits.items():
        good = WRITER.fields[field]
        for value in sorted({0, 1, good - 1, good + 1, 2 * good, most - 1, most} - {good}):
            # Within its limits it disagrees with the table, with another field or with the tokenizer.
            case(f"{field}={value}", with_header(**{field: value}))
        for value in (most + 1, 1 << 31, U32):
            case(f"{field}={value}", with_header(**{field: value}), field, value)
    for field, values in {
        "version": (0, 2, 1 << 31, U32),
        "n_sections": (0, 65537, 1 << 31, U32),
        "file_bytes": (0, 1, END - 1, END + 1, 1 << 32, 1 << 63, U64),
        "table_offset": (0, 1, 255, 257, 1 << 63, U64),
        "context_length": (0, (1 << 24) + 1, 1 << 31, U32),
        "sliding_window": ((1 << 24) + 1, 1 << 31, U32),
        "flags": (8, 16, 1 << 31, U32),
        "rope_scaling": (3, 4, 1 << 31, U32),
        "norm_eps": (-1.0, -1e-30, 1.5, np.inf, -np.inf, np.nan),
        "rope_theta": (-1.0, 0.0, 0.5, 1e13, np.inf, -np.inf, np.nan),
    }.items():
        for value in values:
            crc = field != "n_sections"  # the table of so many ends beyond the file, and its checksum with it
            case(f"{field}={value}", lambda f=field, v=value, c=crc: WRITER.pack(header={f: v}, crc=c), field)
    for value in (1, len(NAMES) - 1, len(NAMES) + 1, 600):
        case(f"n_sections={value}", with_header(n_sections=value))
    for value in (1, 2, 4, 5, 6, 7):  # a head that must not be there, biases that are missing, weights that are too many
        if value in (2, 3):
            case(f"flags={value}", with_header(flags=value), "bias")
    for kind in (1, 2):
        for value in (-1.0, 0.0, 0.5, 1e7, np.inf, np.nan):
            fields = {"rope_original_context": 64, "rope_low_freq_factor": 1.0, "rope_high_freq_factor": 4.0}
            make = with_header(rope_scaling=kind, **{**fields, "rope_factor": value})
            case(f"rope_scaling={kind},rope_factor={value}", make, "rope_factor")
    for field, values in {
        "rope_original_context": (0, (1 << 24) + 1, U32),
        "rope_low_freq_factor": (-1.0, 0.0, 1e7, np.inf, np.nan),
        "rope_high_freq_factor": (-1.0, 0.0, 1.0, 1e7, np.inf, np.nan),
    }.items():
        for value in values:
            good = {"rope_scaling": 2, "rope_factor": 8.0, "rope_original_context": 64, "rope_low_freq_factor": 1.0,
                    "rope_high_freq_factor": 4.0}  # fmt: skip
            case(f"llama3,{field}={value}", with_header(**{**good, field: value}), "rope_")
    for fields in (("dim", "vocab_size"), ("dim", "hidden_dim"), ("n_heads", "head_dim"), ("n_layers", "dim"), limits):
        most = {field: limits[field] for field in fields}
        case("at_most:" + ",".join(fields), with_header(**most))
        overflowing = {field: U32 for field in fields}
        case("overflow:" + ",".join(fields), with_header(**overflowing))
    for at in range(8):
        case(f"magic[{at}]", with_bytes(at, bytes([GOOD[at] ^ 1])), "magic")
    for bit in range(0, 32, 3):
        case(f"header_crc^{bit}", with_bytes(32 + bit // 8, bytes([GOOD[32 + bit // 8] ^ 1 << bit % 8]), False), "header_crc")
    for at in range(120, 256, 15):
        case(f"zero[{at}]", with_bytes(at, b"\1"), "header")
    for at in range(36, 256 + 96 * len(NAMES), 61):
        case(f"damaged[{at}]", with_bytes(at, bytes([GOOD[at] ^ 0x10]), False), "header_crc")


def table_cases():
    for i, (name, e, (offset, size)) in enumerate(zip(NAMES, WRITER.entries, PLACES)):
        for label, value in {"empty": b"", "unended": b"x" * 48, "tail": name.encode() + b"\0x"}.items():
            case(f"{name}.name={label}", with_entry(i, "name", value), "name")
        if name not in ("provenance", "chat"):
            case(f"{name}.name=unknown", with_entry(i, "name", b"stranger"), name if e["kind"] else "stranger")
        for value in {0, 1, 2, 3, 255, U32} - {e["kind"]}:
            case(f"{name}.kind={value}", with_entry(i, "kind", value), "section")
        types = (1, 2, 3, 4, 5, 255, U32) if e["kind"] == 2 else (1, 5, U32)
        for value in types:
            case(f"{name}.type={value}", with_entry(i, "type", value), name)
        for field in ("rows", "cols"):
            for value in sorted({0, 1, e[field] + 16, 1 << 31, U32} - {e[field]}):
                case(f"{name}.{field}={value}", with_entry(i, field, value), name)
        other = PLACES[(i + 1) % len(PLACES)][0]
        moved = {0, 256, offset - 64, offset + 64, offset + 4096, offset + 1, other, END, 1 << 63, U64, U64 - 63}
        for value in sorted(moved - {offset}):
            case(f"{name}.offset={value}", with_entry(i, "offset", value), name)
        # One byte less of a text is a shorter text, up to the padding.
        for value in (0, size - 1 if e["kind"] else size - 64, size + 64, 1 << 32, 1 << 63, U64):
            case(f"{name}.bytes={value}", with_entry(i, "bytes", value % 2**64))
        for at in (0, 8):
            place = 256 + 96 * i + 84 + at
            case(f"{name}.zeros[{at}]", with_bytes(place, b"\1"), name)


def section_cases():
    """A section that is missing, duplicated, moved or cut."""

    def edited(edit, **header):
        def make():
            writer = native_models.tiny(chat=True, n_layers=1, flags=0)
            edit(writer.entries)
            return writer.pack(header=header)

        return make

    for i, name in enumerate(NAMES):
        if name not in ("provenance", "chat"):
            case(f"without:{name}", edited(lambda entries, i=i: entries.pop(i)), name)
        case(f"twice:{name}", edited(lambda entries, i=i: entries.insert(i, entries[i])), name)
        start, size = PLACES[i]
        for at in sorted({start, start + 1, start + size // 2, start + size - 1} - {END}):
            case(f"cut:{name}:{at}", lambda at=at: GOOD[:at], "file_bytes", at)

            def sealed(at=at):
                data = bytearray(GOOD[:at])
                struct.pack_into("<Q", data, 16, at)
                native.seal(data)
                return bytes(data)

            case(f"shrunk:{name}:{at}", sealed, "section")
    for at in (0, 1, 7, 8, 9, 31, 32, 35, 36, 119, 120, 255, 256, 257, 351, 352, 256 + 96 * len(NAMES) - 1):
        case(f"cut:{at}", lambda at=at: GOOD[:at])
    for extra in (1, 63, 64, 4096):
        case(f"longer:{extra}", lambda n=extra: GOOD + bytes(n), "file_bytes")
        case(f"longer_sealed:{extra}", lambda n=extra: WRITER.pack(header={"file_bytes": END + n}) + bytes(n), END)
    case("no_sections_of_weights", edited(lambda entries: entries.__delitem__(slice(3, None))), "embedding")
    case("a_gguf_file", lambda: b"GGUF" + bytes(100), "GGUF", "convert")


def chat_cases():
    i, (at, size) = NAMES.index("chat"), PLACES[NAMES.index("chat")]
    for value in (8, 255, U32):
        case(f"chat.flags={value}", with_bytes(at, struct.pack("<I", value), False), "chat")
    for value in (size, 1 << 31, U32, U32 - 3):
        case(f"chat.length={value}", with_bytes(at + 4, struct.pack("<I", value), False), "chat")
    for length in range(size):
        def make(length=length):
            writer = native_models.tiny(chat=True, n_layers=1, flags=0)
            writer.entries[i]["data"] = writer.entries[i]["data"][:length]
            return writer.pack()
        case(f"chat.cut={length}", make, "chat")  # fmt: skip


def weight_cases():
    """Weights that are not finite: the message names the layer where they show, and no text is made of them."""
    for name in TENSORS:
        for value in (np.nan, np.inf, -np.inf):
            layer = "blocks.0" if name.startswith("blocks") else "head" if name in ("norm", "head") else "embedding"
            case(f"{name}={value}", with_weight(name, 0, value), layer, "not finite")


header_cases()
table_cases()
section_cases()
chat_cases()
weight_cases()


# ----------------------------------------------------------------------------------------------------------------------
# Running them.


def measured(*args):
    """Runs the program; gives a Ran and its largest resident memory in KB."""
    process = subprocess.Popen([EXECUTABLE, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=environment())  # fmt: skip
    hangs = threading.Timer(TIMEOUT, process.kill)
    hangs.start()
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    hangs.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close(), process.stderr.close()
    return Ran(process.args, process.returncode, out, err, usage.ru_utime + usage.ru_stime), usage.ru_maxrss


def assert_quick(done):
    took = done.cpu_seconds
    assert took < MOST_SECONDS, f"took {took:.1f} s of processor time, expected less than {MOST_SECONDS:.0f}\n{done}"


@pytest.fixture(scope="module")
def attempt(tmp_path_factory):
    """attempt(data): chats greedily with these bytes as the model."""
    path = tmp_path_factory.mktemp("bad") / "broken.bin"

    def go(data):
        path.write_bytes(data)
        return measured(path, "-i", "a", "-n", "2", "-t", "0", "--chat")

    return go


@pytest.fixture(scope="module")
def memory_of_the_good_model(attempt):
    done, memory = attempt(GOOD)
    done.ok()
    return memory


@pytest.mark.parametrize("make, named", CASES)
def test_broken_checkpoint_is_refused_by_name(make, named, attempt, memory_of_the_good_model):
    done, memory = attempt(make())
    assert_refused(done, 3, "broken.bin", *named)
    assert_quick(done)
    if not SANITIZED:
        most = memory_of_the_good_model + MOST_KILOBYTES
        assert memory < most, f"took {memory} KB, expected less than {most}\n{done}"


def test_there_are_600_broken_checkpoints_and_no_two_are_the_same():
    ids = [c.id for c in CASES]
    assert len(ids) >= 600, f"{len(ids)} cases"
    assert len(set(ids)) == len(ids), f"the same name twice: {sorted({i for i in ids if ids.count(i) > 1})}"


def test_smallest_weights_are_numbers_like_any_other(attempt):
    for value in (1e-45, -1e-45, 1e-39, 0.0):
        for name in ("embedding", "blocks.0.attn.q_proj", "norm"):
            attempt(with_weight(name, 0, value)())[0].ok()


def test_4096_layers_of_a_small_file_are_opened_at_once(tmp_path):
    """Fuzzing found a search that took time with the square of the number of tensors."""
    import models

    config = models.Config(2, 1, 4096, 1, 1, 300, 8)
    model, tokenizer = tmp_path / "deep.bin", tmp_path / "tokenizer.bin"
    model.write_bytes(models.model_bytes(config, "v1", models.zero_weights(config)))
    tokenizer.write_bytes(models.tokenizer_bytes(models.tiny_pieces()))
    done, _ = measured(model, "-z", tokenizer, "-i", "a", "-n", "1", "-t", "0", "-j", "1")
    assert_quick(done.ok())
