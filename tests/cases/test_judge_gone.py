"""A judge that fails for more than a stated share of a batch's groups ends the run, in its own words, and the run can go on later.

Reported: EG-RL went on to the end with its judge's server down, every group void and no weight changed (models.md F8;
https://github.com/modelscope/ms-swift/issues/8123).
"""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from embedrl.data.protocols import Question
from embedrl.data.tcot import TCoT, render
from embedrl.errors import ModelError
from embedrl.reasoner.local import LocalReasoner
from embedrl.reasoner.remote import ChatServer, RemoteReasoner
from embedrl.rl.config import Config, RewardConfig
from embedrl.rl.rollouts import Scorer
from embedrl.rl.train import train
from embedrl.testing import FakeJudge
from tests.chat_server import Answer, chat_server, completion
from tests.conftest import make_random_reasoner
from tests.test_rl_train import Scorer as LengthScorer
from tests.test_rl_train import make_pairs as world_pairs
from tests.test_rollouts import COLOURS, encode, make_pairs, make_rollouts


class HalfJudge(FakeJudge):
    """Fails for the questions about some anchors."""

    def __init__(self, fails: Sequence[str]) -> None:
        super().__init__()
        self.fails, self.last_failure = fails, ""

    def pick(self, questions: Sequence[Question]) -> list[int | None]:
        verdicts = [
            None if anchor.answer in self.fails else place for (anchor, _), place in zip(questions, super().pick(questions), strict=True)
        ]
        self.last_failure = "out of cheese" if None in verdicts else ""
        return verdicts


def reward(judge: FakeJudge | RemoteReasoner, **config: float) -> list[float | None]:
    scorer = Scorer(make_pairs(), encode, judge, RewardConfig(process_weight=0.2, **config))
    rollouts = [rollout for rollout in make_rollouts() if "shape" not in rollout.text]
    return scorer.reward(
        completions=[[{"role": "assistant", "content": rollout.text}] for rollout in rollouts],
        pair=[rollout.pair for rollout in rollouts],
        is_query=[rollout.is_query for rollout in rollouts],
        trainer_state=SimpleNamespace(global_step=4),
        log_metric=lambda name, value: None,
    )


def test_the_share_of_void_groups_decides() -> None:
    """Of six groups, the two about red are void."""
    assert reward(HalfJudge(["red"])).count(None) == 2
    assert reward(HalfJudge(["red"]), max_void_share=2 / 6).count(None) == 2
    with pytest.raises(ModelError, match=r"step 5: .* 2 of 6 groups, more than rewards\.max_void_share=0\.3.*out of cheese"):
        reward(HalfJudge(["red"]), max_void_share=0.3)
    with pytest.raises(ModelError, match=r"4 of 6 groups.*out of cheese.*goes on from its last checkpoint"):
        reward(HalfJudge(["red", "blue"]))
    assert reward(HalfJudge(list(COLOURS)), max_void_share=1).count(None) == 6


def test_the_words_are_the_servers() -> None:
    with pytest.raises(ModelError, match=r"6 of 6 groups.*127\.0\.0\.1:9.*(refused|ConnectError|connection)"):
        reward(RemoteReasoner(ChatServer("http://127.0.0.1:9/v1", "m", num_retries=0)))
    with chat_server() as server:
        server.otherwise = Answer({"error": {"message": "no such model: judge-9000"}}, status=404)
        with pytest.raises(ModelError, match="no such model: judge-9000"):
            reward(RemoteReasoner(ChatServer(server.url, "m", num_retries=0)))
        server.otherwise = Answer(completion("I think it is the second."))
        with pytest.raises(ModelError, match="is no number of a candidate: 'I think it is the second"):
            reward(RemoteReasoner(ChatServer(server.url, "m", num_retries=0)))


class Gone(LengthScorer):
    """Its judge is there for the first step and gone at the second."""

    def __init__(self, *, gone: bool) -> None:
        super().__init__()
        self.gone = gone

    def reward(self, completions, pair, is_query, trainer_state, log_metric, **_) -> list[float | None]:
        if self.gone and trainer_state.global_step == 1:
            texts = [render(TCoT(thinking="look.", rethink="fine.", answer=name)) for name in COLOURS]
            judged = Scorer(make_pairs(), encode, HalfJudge(list(COLOURS)), RewardConfig(process_weight=1))
            judged.reward(
                completions=[[{"content": text}] for text in texts for _ in range(2)],
                pair=[number for number in range(3) for _ in range(2)],
                is_query=[True, False] * 3,
                trainer_state=trainer_state,
                log_metric=log_metric,
            )
        return super().reward(completions, pair, is_query, trainer_state, log_metric)


@pytest.mark.slow
def test_the_run_goes_on_when_the_judge_is_back(tmp_path: Path) -> None:
    make_random_reasoner().save(tmp_path / "model")

    def run(name: str, *, gone: bool) -> dict[str, torch.Tensor]:
        trainer = {"max_steps": 3, "per_device_train_batch_size": 8, "num_generations": 2, "max_completion_length": 4, "save_steps": 1}
        trainer |= {"learning_rate": 1e-3, "bf16": False, "gradient_checkpointing": False, "use_cpu": True}
        config = Config(out=tmp_path / name, family_size=2, rewards=RewardConfig(process_weight=0), trainer=trainer)
        train(LocalReasoner.load(tmp_path / "model"), world_pairs(), Gone(gone=gone), config)
        return load_file(tmp_path / name / "checkpoints/checkpoint-3/model.safetensors")

    whole = run("whole", gone=False)
    with pytest.raises(ModelError, match=r"step 2: the judge failed for 6 of 6 groups"):
        run("cut", gone=True)
    assert (tmp_path / "cut/checkpoints/checkpoint-1").is_dir()
    resumed = run("cut", gone=False)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
