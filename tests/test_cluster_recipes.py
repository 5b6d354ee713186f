"""docs/cluster.md keeps its promise: its recipes run on this machine, in their local form."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cryosip

pytestmark = pytest.mark.slow
DOCUMENT = Path(__file__).parent.parent / "docs/cluster.md"
RECIPES = dict(re.findall(r"^<!-- recipe: (\w+) -->\n```\w+\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S))
FEWER = {"--profile paper": "--profile smoke --replicates 1"}
CRYOSIP = "from cryosip.bench.app.cli import main; main()"
DASK = "from dask.__main__ import main; main()"


@pytest.fixture
def place(tmp_path):
    """A folder in which the commands of the recipes are found, and those of SLURM as they are without it."""
    programs = {
        "cryosip": f'exec {sys.executable} -c "{CRYOSIP}" "$@"',
        "dask": f'exec {sys.executable} -c "{DASK}" "$@"',
        "srun": 'exec "$@"',
        "scontrol": 'echo "$@" >> scontrol.log',
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def local(recipe, changes):
    text = RECIPES[recipe]
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return re.sub(r"^\$ ", "", text, flags=re.M)


def started(place, script, **variables):
    env = os.environ | {"PATH": f"{place}:{os.environ['PATH']}", **variables}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(["bash", "-c", script], cwd=place, env=env, start_new_session=True, **pipes)


def ended(process):
    try:
        text, _ = process.communicate(timeout=900)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, text


def all_made(place, text):
    table = cryosip.load(place / "results")
    assert set(table["status"]) == {"ok"}, text
    assert table["run_id"].nunique() > 5
    return table["run_id"].nunique()


def test_all_recipes_are_tried():
    assert RECIPES.keys() == {"slurm", "dask", "jobqueue", "array"}


def test_jobs_by_submitit(place):
    changes = FEWER | {"partition=gpu,gpus_per_node=1": "cluster=local"}
    code, text = ended(started(place, local("slurm", changes)))
    assert code == 0, text
    assert f"{all_made(place, text)} executed" in text


def test_workers_of_dask(place):
    recipe = local("dask", FEWER | {"dask scheduler": "dask scheduler --host 127.0.0.1 --port 0 --no-dashboard"})
    code, text = ended(started(place, recipe + "status=$?\nkill $(jobs -p)\nexit $status"))
    assert code == 0, text
    assert f"{all_made(place, text)} executed" in text


def test_workers_that_jobqueue_submits(place):
    """Those of SLURM are processes of this machine here; what is submitted there is looked at."""
    recipe, sbatch = RECIPES["jobqueue"], place / "sbatch"
    sbatch.write_text('#!/bin/sh\ncp "$1" sbatch.log\n(sh "$1" > worker.log 2>&1 &)\necho "Submitted batch job $$"\n')
    sbatch.chmod(0o755)
    (place / "scancel").symlink_to("/bin/true")
    here = 'walltime="02:00:00", scheduler_options={"host": "127.0.0.1"},'
    changed = recipe.replace('walltime="02:00:00",', here).replace("scale(8)", "scale(2)")
    changed = changed.replace("--resources GPU=1", "--no-dashboard")
    (place / "workers.py").write_text(changed)
    cluster = started(place, f"exec {sys.executable} workers.py")
    try:
        address = cluster.stdout.readline().strip()
        assert address.startswith("tcp://"), address + cluster.stdout.read()
        words = f"cryosip run paper-1d --profile smoke --replicates 1 --scheduler {address}"
        code, text = ended(started(place, words))
        assert code == 0, text + (place / "worker.log").read_text()
        assert f"{all_made(place, text)} executed" in text
        submitted = (place / "sbatch.log").read_text()
        assert "#SBATCH --gres=gpu:1" in submitted
        assert "#SBATCH -p gpu" in submitted
    finally:
        os.killpg(cluster.pid, signal.SIGKILL)
        cluster.communicate()
        subprocess.run(["pkill", "-KILL", "-f", f"distributed.cli.dask_worker {address}"], check=False)


def test_the_same_command_in_two_jobs_of_which_one_is_interrupted(place):
    """SLURM sends its signal to the steps of a job; the job is queued again, and both end well."""
    script, seen = local("array", FEWER), place / "results/paper-1d"
    jobs = [started(place, script, SLURM_JOB_ID=str(number)) for number in (17, 18)]
    while not list(seen.glob("*[0-9a-f].json")) and jobs[0].poll() is None:
        time.sleep(0.1)
    (step,) = Path(f"/proc/{jobs[0].pid}/task/{jobs[0].pid}/children").read_text().split()
    os.kill(int(step), signal.SIGUSR1)
    (first, one), (second, two) = (ended(job) for job in jobs)
    assert (first, second) == (75, 0), one + two
    assert "told to stop by SIGUSR1; the same command goes on from the checkpoints" in one
    assert (place / "scontrol.log").read_text() == "requeue 17\n"
    code, again = ended(started(place, script, SLURM_JOB_ID="17"))
    assert code == 0, again
    made = [line for text in (one, two, again) for line in re.findall(r"^(\[.*?): ok", text, re.M)]
    assert len(made) == len(set(made)) == all_made(place, again)
