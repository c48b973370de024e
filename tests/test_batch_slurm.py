"""The Slurm array of docs/batch.md, on a cluster of one node that the test starts on this machine: its own daemons, in a
folder of their own, on free ports of the loopback device. Nothing of the system's own Slurm or munge is touched."""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from conftest import EMULATOR, EXECUTABLE, ROOT, SLOWER, environment
from test_batch import requests_of, results_bytes, write_lines

PATH = os.environ.get("PATH", "") + ":/usr/sbin"
COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "sinfo", "squeue")
MISSING = [name for name in COMMANDS if not shutil.which(name, path=PATH)]
pytestmark = [pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
              pytest.mark.skipif(bool(EMULATOR), reason="the jobs do not run the emulator")]  # fmt: skip
DEADLINE = 120 * SLOWER

# One processor: a node could not have fewer. Version 22.05 looks for a plugin for cgroups even where none are used; the
# one for version 1 needs nothing of the system to start.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=1
PartitionName=main Nodes=node Default=YES
"""


def free_ports(n):
    """Ports that are free at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """The daemons, in a folder with a short name: that of a socket has 107 bytes at most."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        self.env = environment({"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH})
        (folder / "key").write_bytes(os.urandom(1024))
        (folder / "key").chmod(0o600)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        host = socket.gethostname().split(".")[0]
        values = {"host": host, "ports": free_ports(2), "user": getpass.getuser(), "folder": folder}
        (folder / "slurm.conf").write_text(CONFIG.format(**values))
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")

    def start(self, *command):
        with open(self.folder / f"{command[0]}.err", "wb") as log:
            self.processes.append(subprocess.Popen(command, env=self.env, stdout=log, stderr=log))

    def open(self):
        # --force: without it munged insists on the permissions of all folders above its files.
        files = [f"--{name}={self.folder}/{file}" for name, file in (("key-file", "key"), ("socket", "munge"),
                 ("pid-file", "munged.pid"), ("log-file", "munged.log"), ("seed-file", "seed"))]  # fmt: skip
        self.start("munged", "--foreground", "--force", *files)
        self.wait_until(lambda: (self.folder / "munge").exists(), "munged has a socket")
        self.start("slurmctld", "-D")
        self.start("slurmd", "-D", "-N", "node")
        self.wait_until(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T").stdout, "the node is idle")

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(30 * SLOWER)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ask(self, *command, **popen):
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=DEADLINE, **popen)

    def wait_until(self, condition, what):
        end = time.monotonic() + DEADLINE
        while not condition():
            for process in self.processes:
                assert process.poll() is None, f"expected that {what}\n{self.logs()}"
            assert time.monotonic() < end, f"expected that {what}\n{self.logs()}"
            time.sleep(0.2)

    def logs(self):
        files = [*self.folder.glob("*.log"), *self.folder.glob("*.err")]
        return "\n".join(f"{path.name}:\n{path.read_text(errors='replace')[-3000:]}" for path in files)


@pytest.fixture
def cluster():
    folder = Path(tempfile.mkdtemp(prefix="slurm."))
    one = Cluster(folder)
    try:
        one.open()
        yield one
        one.ask("scancel", f"--user={getpass.getuser()}")
        one.wait_until(lambda: not one.ask("squeue", "--noheader").stdout, "no job is left")
    finally:
        one.close()
        shutil.rmtree(folder)


def of_docs(mark):
    text = (ROOT / "docs" / "batch.md").read_text().split(f"<!-- tested: {mark} -->\n\n")[1].split("\n\n")[0]
    return "\n".join(line.removeprefix("    ") for line in text.splitlines()) + "\n"


def test_an_array_that_is_cancelled_and_submitted_again_gives_the_bytes_of_one_run(cluster, tiny, tmp_path):
    """The second of three pieces comes through a pipe at first: so it is being answered when the array is cancelled."""
    lines = requests_of(50)
    want = results_bytes(tiny, write_lines(tmp_path / "requests.jsonl", lines), tmp_path / "want")
    script = of_docs("slurm").replace("./run model.bin", " ".join(str(part) for part in [EXECUTABLE, *tiny]))
    assert str(EXECUTABLE) in script and "1000 *" in script, script
    (tmp_path / "answer.sh").write_text(script.replace("1000 *", "20 *"))
    for i in range(3):
        write_lines(tmp_path / f"piece.{i:04}.jsonl", lines[20 * i : 20 * i + 20])
    piece, results = tmp_path / "piece.0001.jsonl", tmp_path / "piece.0001.results"
    piece.unlink()
    os.mkfifo(piece)
    pipe = os.open(piece, os.O_RDWR)
    os.write(pipe, "".join(line + "\n" for line in lines[20:25]).encode())

    submit = of_docs("submit").strip()
    done = cluster.ask("bash", "-euc", submit, cwd=tmp_path)
    assert done.returncode == 0 and "Submitted batch job" in done.stdout, done
    cluster.wait_until(lambda: results.exists() and results.read_bytes().count(b"\n") == 5, "5 requests are answered")
    assert cluster.ask("scancel", done.stdout.split()[-1]).returncode == 0
    cluster.wait_until(lambda: not cluster.ask("squeue", "--noheader").stdout, "the array has ended")
    os.close(pipe)
    assert results.read_bytes() == b"".join(want.splitlines(keepends=True)[20:25])

    piece.unlink()
    write_lines(piece, lines[20:40])
    done = cluster.ask("bash", "-euc", submit.replace("sbatch", "sbatch --wait"), cwd=tmp_path)
    outputs = {path.name: path.read_text() for path in tmp_path.glob("slurm-*.out")}
    assert done.returncode == 0 and not (tmp_path / "piece.0003.results").exists(), f"{done}\n{outputs}\n{cluster.logs()}"
    assert b"".join(path.read_bytes() for path in sorted(tmp_path.glob("piece.*.results"))) == want
