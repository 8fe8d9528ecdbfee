"""A Slurm of one node, from its daemons and a folder."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")

CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
NodeName=here NodeHostname=localhost NodeAddr=127.0.0.1 CPUs={cores} RealMemory=1000 State=UNKNOWN
PartitionName=short Nodes=here Default=YES MaxTime=01:00:00 State=UP
"""


def missing() -> str:
    """Why Slurm cannot be started here; "" where it can."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: munge slurmctld slurmd slurm-client)"
    return "" if os.getuid() == 0 else "Slurm's daemons want root"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running(folder: Path):
    """Start it; inside, `sbatch` and the others find it by SLURM_CONF, which is returned."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    ports = free_port(), free_port()
    text = CONFIGURATION.format(folder=folder, ports=ports, cores=os.cpu_count())
    configuration.write_text(text)
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    munge = {"key-file": key} | {
        f"{name}-file": folder / f"munge.{name}" for name in ("pid", "log", "seed")
    }
    munge = [f"--{name}={path}" for name, path in munge.items()]
    environment = os.environ | {"SLURM_CONF": str(configuration)}
    with ExitStack() as stack, open(folder / "daemons.log", "ab") as log:

        def start(*command):
            daemon = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
            stack.callback(daemon.wait, 30)
            stack.callback(daemon.terminate)

        def waits_for(done, what):
            limit = time.monotonic() + 60
            while not done():
                assert time.monotonic() < limit, f"{what}: {(folder / 'daemons.log').read_text()}"
                time.sleep(0.1)

        socket_path = folder / "munge.socket"
        start("munged", "--force", "--foreground", f"--socket={socket_path}", *munge)
        waits_for(socket_path.exists, "munged does not start")
        start("slurmctld", "-D")
        start("slurmd", "-D", "-N", "here")

        def idle():
            command = ["sinfo", "--noheader", "--format=%T"]
            answer = subprocess.run(command, env=environment, capture_output=True, text=True)
            return answer.stdout.strip() == "idle"

        waits_for(idle, "the node is not idle")
        yield configuration
