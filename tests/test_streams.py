"""Batches side by side on a CPU give what they give one after another."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from embedrl.data.sample import Item, Role
from embedrl.embedder.embedder import Embedder, encode_concurrently
from embedrl.media.content import Text

CPU = torch.device("cpu")


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("four_threads")
def test_two_batches_are_under_way_at_once_each_on_half_of_the_threads() -> None:
    meet = threading.Barrier(2, timeout=20)

    def encode(number: int) -> Tensor:
        meet.wait()  # breaks unless another batch is there too
        return torch.tensor([number, torch.get_num_threads()])

    found = torch.stack(list(encode_concurrently(encode, range(6), CPU)))
    assert found.tolist() == [[number, 2] for number in range(6)]
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(("batches", "device"), [([1], "cpu"), ([1, 2, 3], "meta")])
def test_one_batch_or_an_accelerator_stays_in_this_thread(batches: list[int], device: str) -> None:
    here = threading.current_thread()

    def encode(number: int) -> Tensor:
        assert threading.current_thread() is here
        return torch.tensor([number, torch.get_num_threads()])

    assert [row.tolist() for row in encode_concurrently(encode, batches, torch.device(device))] == [[number, 4] for number in batches]


@pytest.mark.usefixtures("four_threads")
def test_an_error_reaches_the_caller_and_the_threads_are_given_back() -> None:
    def encode(number: int) -> Tensor:
        if number == 3:
            raise ValueError("batch 3")
        return torch.tensor(number)

    with pytest.raises(ValueError, match="batch 3"):
        list(encode_concurrently(encode, range(8), CPU))
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_vectors_are_the_same_and_repeat_to_the_last_bit(random_embedder: Embedder) -> None:
    items = [Item(content=(Text(text="star " * (1 + number % 7)),), role=Role.TARGET_TEXT) for number in range(40)]
    random_embedder.batch_tokens = 64
    once, again = (random_embedder.embed(items, [None] * len(items)) for _ in range(2))
    assert np.array_equal(once, again)
    torch.set_num_threads(1)
    assert np.abs(once - random_embedder.embed(items, [None] * len(items))).max() < 1e-5


@pytest.mark.usefixtures("four_threads")
def test_threads_to_come_are_given_what_they_always_were() -> None:
    """The number of threads of a stream was that of every thread that first used torch meanwhile, for good."""
    given: list[int] = []

    def encode(number: int) -> torch.Tensor:
        newcomer = threading.Thread(target=lambda: given.append(torch.get_num_threads()))
        newcomer.start()
        newcomer.join()
        return torch.tensor([number, torch.get_num_threads()])

    assert {int(row[1]) for row in encode_concurrently(encode, range(6), CPU)} == {2}
    assert set(given) == {4}
