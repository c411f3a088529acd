"""Start of a stage in several processes, one per GPU (or core), as torchrun does; on the nodes of a Slurm job, one torchrun on each.

The stage's first process reads the command line, checks what it can, starts the others and waits: it trains nothing itself.
"""

import argparse
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

from benchmarks.whole_file import write_whole
from pipelines import layout
from pipelines.circumstances import CircumstanceError, interrupt_once, is_circumstance
from pipelines.runner.gpus import visible_gpus
from pipelines.runner.parent_death import LAUNCHER

_FOLDER = "KD_RANKS"
_SAID, _EXCUSED = "error.txt", "excused"
_SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
_LOST_PEER = ("DistBackendError", "DistNetworkError")
_EXITS = {130: "SIGTERM"}  # which a rank closes its MLflow run on
_SHUTDOWN_S = 15  # for a rank to close its MLflow run
_JOIN_S = 600
# A rank leaves Ctrl-C, and the signal before a requeue, to the process that started it, which ends it by SIGTERM.
_SHELL = ["sh", "-c", 'trap "" INT USR2; exec "$@"', "sh"]


def world_size() -> int:
    """Return the number of processes that torchrun has started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_rank() -> bool:
    """Return True in a process that torchrun has started."""
    return "LOCAL_RANK" in os.environ


def launch(stage: str, processes: int) -> bool:
    """Run a stage in several processes and wait for their end, where it wants several and this is none of them.

    Args:
        stage: name; its arguments are this process's.
        processes: that the run is divided among.

    Returns:
        False where this process is to do the work itself.

    Raises:
        ValueError: a rank has failed, in its words; or there are fewer devices than processes.
    """
    if is_rank():
        if world_size() != processes:
            raise ValueError(
                f"{world_size()} processes are started, and params.yaml says gpus_per_run: {processes}; make them agree"
            )
        return False
    if processes == 1:
        return False
    nodes, per_node = _nodes(processes)
    folder = layout.WORK / "ranks" / uuid.uuid4().hex
    folder.mkdir(parents=True)
    environment = {_FOLDER: str(folder.resolve())}
    command = [sys.executable, "-u", "-m", f"pipelines.stages.{stage}", *sys.argv[1:]]
    try:
        if nodes == 1:
            os.environ.update(environment)
            failure = _agent(command, nodes=1, per_node=per_node, endpoint="localhost:0", run=folder.name)
        else:
            failure = _on_nodes(command, nodes, per_node, folder.name, environment)
        said = folder / _SAID
        if failure:
            is_excused = (
                (folder / _EXCUSED).exists() if said.is_file() else failure.partition(" ended by ")[2].startswith(_SIGNALS)
            )
            kind = CircumstanceError if is_excused else ValueError
            raise kind(said.read_text().strip() if said.is_file() else failure)
    finally:
        for name in environment:
            os.environ.pop(name, None)
        shutil.rmtree(folder, ignore_errors=True)
    return True


def say(line: str, error: Exception) -> bool:
    """Hand an error to the process that started the ranks, which prints the first one; return False where there is none."""
    folder = os.environ.get(_FOLDER)
    if folder is None or not is_rank():
        return False
    if isinstance(error, RuntimeError) and (type(error).__name__ in _LOST_PEER or "gloo" in str(error)):
        return True  # another rank has ended, and says why
    try:
        with (Path(folder) / _SAID).open("x") as file:
            file.write(line)
        if is_circumstance(error):
            (Path(folder) / _EXCUSED).touch()
    except OSError:  # another rank was first
        pass
    return True


def begin_rank() -> None:
    """Prepare a rank's process: SIGTERM ends it as Ctrl-C does."""
    if is_rank():
        signal.signal(signal.SIGTERM, interrupt_once)


def end_rank() -> None:
    """Let nothing interrupt the end of a rank: torchrun ends all as soon as one has failed."""
    if is_rank():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _nodes(processes: int) -> tuple[int, int]:
    """Return nodes and processes on each; ValueError where they have too few devices."""
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if processes % nodes:
        raise ValueError(
            f"gpus_per_run is {processes}, which {nodes} nodes cannot share evenly; correct params.yaml or slurm.yaml"
        )
    gpus, cores = visible_gpus(), len(os.sched_getaffinity(0))
    found, what = (len(gpus), "GPUs") if gpus else (cores, "cores, without a GPU")
    if processes // nodes > found:
        raise ValueError(f"gpus_per_run is {processes}, and there are {found} {what} on a node; lower it in params.yaml")
    return nodes, processes // nodes


def _agent(command: list[str], *, nodes: int, per_node: int, endpoint: str, run: str, is_host: bool = True) -> str | None:
    """Start this node's ranks and wait; return why they failed, None where they succeeded."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException  # noqa: PLC0415 (seconds, in torch)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415 (as above)
    from torch.distributed.elastic.rendezvous.api import RendezvousError  # noqa: PLC0415 (as above)
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: PLC0415 (as above)

    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):  # it explains each end in thirty lines
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    os.environ[LAUNCHER] = str(os.getpid())
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    join_s = float(os.environ.get("KD_TIMEOUT_S", _JOIN_S))
    config = LaunchConfig(
        min_nodes=nodes, max_nodes=nodes, nproc_per_node=per_node, run_id=run, rdzv_backend="c10d", rdzv_endpoint=endpoint,
        rdzv_configs={"is_host": is_host, "timeout": join_s, "join_timeout": join_s}, max_restarts=0, monitor_interval=0.2,
        shutdown_timeout=_SHUTDOWN_S, signals_to_handle="SIGTERM,SIGHUP", logs_specs=DefaultLogsSpecs(log_dir=os.environ[_FOLDER]),
    )  # fmt: skip
    try:
        elastic_launch(config, _SHELL[0])(*_SHELL[1:], *command)
    except ChildFailedError as error:
        # A killed rank takes the others with it.
        first = error.get_first_failure()
        rank, failure = next(((number, one) for number, one in error.failures.items() if one.exitcode < 0), first)
        how = failure.signal_name() if failure.exitcode < 0 else _EXITS.get(failure.exitcode, f"exit code {failure.exitcode}")
        return f"rank {rank} of {nodes * per_node} ended by {how}; the next start goes on from the last checkpoint"
    except SignalException as error:
        raise KeyboardInterrupt from error
    except (RendezvousError, ConnectionError, TimeoutError) as error:
        return f"the nodes of the run do not find each other at {endpoint} within {join_s:g} s ({type(error).__name__})"
    finally:
        os.environ.pop(LAUNCHER, None)
    return None


def _on_nodes(command: list[str], nodes: int, per_node: int, name: str, environment: dict[str, str]) -> str | None:
    """Start an agent on each node of this Slurm job and wait; return why it failed."""
    host = socket.gethostbyname(socket.gethostname())
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    agent = [sys.executable, "-m", "pipelines.runner.launch", str(nodes), str(per_node), f"{host}:{port}", name, *command]
    step = [
        "srun", "--overlap", "--kill-on-bad-exit=1", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1",
        f"--cpus-per-task={os.environ.get('SLURM_CPUS_PER_TASK', '1')}", *_SHELL, *agent,
    ]  # fmt: skip
    # What Slurm says of the step that this process is in would bind the new one.
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_STEP", "SLURM_CPU_BIND", "SLURM_TASK"))}
    process = subprocess.Popen(step, env={**kept, **environment})
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return f"the processes on {nodes} nodes ended with exit code {code} ({shlex.join(step[:6])} ...)" if code else None


def main() -> None:
    """Start the ranks of one node of a Slurm job."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("nodes", type=int)
    parser.add_argument("per_node", type=int)
    parser.add_argument("endpoint")
    parser.add_argument("name")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    is_host = os.environ.get("SLURM_NODEID", "0") == "0"
    failure = _agent(
        args.command, nodes=args.nodes, per_node=args.per_node, endpoint=args.endpoint, run=args.name, is_host=is_host
    )
    if failure:
        folder = Path(os.environ[_FOLDER])
        if not (folder / _SAID).exists():
            write_whole(folder / _SAID, failure)
        sys.exit(2)


if __name__ == "__main__":
    main()
