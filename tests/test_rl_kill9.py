"""An EG-RL run that is killed with -9 at any moment, in the middle of a checkpoint too, ends with the weights of one that was not."""

from pathlib import Path

import pytest

from tests.forking import drive

DRIVER = """
import os, random, signal, sys, time
from pathlib import Path

import torch
from safetensors.torch import load_file

torch.set_num_threads(1)
from tests.conftest import make_random_reasoner
from tests.forking import finish, fork
from tests.test_rl_train import run

ROOT, STEPS = Path(sys.argv[1]), 6


def train(name):
    def work():
        torch.set_num_threads(1)
        run(ROOT / name, ROOT / "model", STEPS, save_steps=1)

    return fork(work)


def checkpoints():
    return len(list((ROOT / "killed").glob("checkpoints/checkpoint-*/model.safetensors")))


finish(fork(lambda: make_random_reasoner().save(ROOT / "model")))
finish(train("whole"))
rng, num_killed = random.Random(0), 0
for more in (1, 1, 2):
    before, pid = checkpoints(), train("killed")
    while checkpoints() < min(2, before + more) and os.waitpid(pid, os.WNOHANG)[0] == 0:  # two are kept
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.1))
    os.kill(pid, signal.SIGKILL)
    num_killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
assert num_killed == 3, num_killed
finish(train("killed"))
last = [ROOT / name / "checkpoints" / f"checkpoint-{STEPS}" / "model.safetensors" for name in ("whole", "killed")]
whole, killed = map(load_file, last)
start = load_file(ROOT / "model" / "model.safetensors")
assert all(torch.equal(whole[name], killed[name]) for name in whole)
assert any(not torch.equal(whole[name], start[name].float()) for name in whole), "it trains"
"""


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    drive(DRIVER, str(tmp_path))


FULL = """
import resource, signal, sys
from pathlib import Path

import torch
from pydantic import BaseModel

from embedrl.errors import StoreError
from embedrl.models.training import run_folder
from tests.conftest import make_random_reasoner
from tests.forking import finish, fork
from tests.test_rl_train import run

ROOT = Path(sys.argv[1])


class Settings(BaseModel):
    number: int = 1


def train(largest_file, says):
    def work():
        torch.set_num_threads(1)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
        said = ""
        try:
            with run_folder(ROOT / "run", Settings()):
                run(ROOT / "run", ROOT / "model", 3, save_steps=1)
        except StoreError as error:
            said = str(error)
        assert says in said and bool(says) == bool(said), said
    finish(fork(work))


finish(fork(lambda: make_random_reasoner().save(ROOT / "model")))
weights = (ROOT / "model" / "model.safetensors").stat().st_size
train(weights // 2, "run': cannot be written (File too large); choose")  # the weights do not fit
train(weights * 5 // 2, "run': cannot be written (No space left on device); free")  # they do, and the optimiser's states do not
train(resource.RLIM_INFINITY, "")
assert (ROOT / "run" / "checkpoints" / "checkpoint-3" / "model.safetensors").is_file()
"""


@pytest.mark.slow
def test_a_file_that_cannot_be_written_is_named_and_the_run_goes_on_when_there_is_room(tmp_path: Path) -> None:
    drive(FULL, str(tmp_path))
