"""Greedy decoding with continuous batching and verified drafts: the texts of `generate`, in fewer passes.

Rows live in slots. A slot that is free is filled from the queue while the others go on, keys and values of each row stand at places of
its own (nothing is concatenated or padded anew), and one pass checks a whole draft: the model's own choice behind each drafted token is
compared with the draft, and what agrees is kept, with the first token that does not. So the tags and the JSON skeleton of a T-CoT, and
what is copied from the item's text, cost a pass for many tokens.
"""
# N rows in use, K new tokens of each, L prompt, T places of a slot, H heads, D head dim, V vocabulary

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from embedrl.models.qwen3_vl_fast import CACHE, hidden_states_at
from embedrl.reasoner.drafts import Drafter, Habits
from embedrl.reasoner.keyword_copy import KeywordCopyConstraint

MAX_DRAFT = 4
"""Tokens of a draft, at most: a pass over more rarely pays."""
REFILL_SHARE = 0.25
"""Fraction of free slots at which new rows are added (continuous batching)."""
PREFILL_TOKENS = 2048
"""Padded tokens of a batch of prompts; a longer prompt stands alone."""


@dataclass
class Row:
    """An answer that is being written."""

    number: int
    """Which prompt it answers."""
    length: int
    """Keys and values that its slot holds."""
    position: int
    """Rotary position of the next token, the same on all three axes."""
    drafter: Drafter
    ids: list[int] = field(default_factory=list)


class Slots:
    """Keys and values of rows, each row at places of its own. Stands where transformers takes a `Cache`."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots, self.size = num_slots, 0
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}
        self.rows_N1 = self.places_NK = torch.empty(0)
        self.end = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the places in use of the fullest row."""
        return self.end

    def reserve(self, size: int) -> None:
        """Grow each slot to at least `size` positions."""
        if size <= self.size:
            return
        self.size = size
        for layer, (keys, values) in self.layers.items():
            self.layers[layer] = (_grown(keys, size), _grown(values, size))

    def fill(self, slot: int, source: DynamicCache, row: int, length: int) -> None:
        """Copy the last `length` keys and values of a row of a (left-padded) cache into a slot."""
        layers: list[Any] = source.layers
        for number, layer in enumerate(layers):
            if number not in self.layers:
                shape = (self.num_slots, layer.keys.shape[1], self.size, layer.keys.shape[3])
                self.layers[number] = (layer.keys.new_zeros(shape), layer.values.new_zeros(*shape[:3], layer.values.shape[3]))
            for kept, new in zip(self.layers[number], (layer.keys, layer.values), strict=True):
                kept[slot, :, :length] = new[row, :, new.shape[2] - length :]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a row to another slot."""
        for kept in (states for pair in self.layers.values() for states in pair):
            kept[target, :, :length] = kept[source, :, :length]

    def at(self, lengths: Sequence[int], num_new: int, device: torch.device) -> Tensor:
        """Let the next pass write `num_new` tokens behind each row, and return which places each of them sees: (N, 1, K, T in use)."""
        length_N1 = torch.tensor(lengths, device=device)[:, None]
        self.places_NK = length_N1 + torch.arange(num_new, device=device)
        self.rows_N1 = torch.arange(len(lengths), device=device)[:, None]
        self.end = max(lengths) + num_new
        return (torch.arange(self.end, device=device) <= self.places_NK[:, :, None])[:, None]

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write new keys and values (N, H, K, D), and return those of all places in use."""
        kept = self.layers[layer_idx]
        for states, new in zip(kept, (key_states, value_states), strict=True):
            states[self.rows_N1, :, self.places_NK] = new.transpose(1, 2)
        keys, values = (states[: len(self.rows_N1), :, : self.end] for states in kept)
        return keys, values


def _grown(states: Tensor, size: int) -> Tensor:
    grown = states.new_zeros(*states.shape[:2], size, states.shape[3])
    grown[:, :, : states.shape[2]] = states
    return grown


@dataclass(frozen=True)
class Stops:
    """What ends an answer, and what none may hold."""

    max_new_tokens: int
    ends: frozenset[int]
    suppressed: tuple[int, ...]
    pad: int


class GreedyDecoder:
    """Writes the likeliest tokens of many prompts on a Qwen3-VL."""

    def __init__(self, model: Any, habits: Habits, stops: Stops, num_slots: int, *, max_draft: int = MAX_DRAFT) -> None:
        self.model, self.habits, self.stops, self.max_draft = model, habits, stops, max_draft
        self.slots = Slots(num_slots)
        self.rows: list[Row] = []
        """In their slots, in order."""
        self.num_steps = 0
        """Passes behind prompts so far."""

    @torch.inference_mode()
    def write(
        self,
        lengths: Sequence[int],
        collate: Callable[[Sequence[int]], dict[str, Tensor]],
        constraint: KeywordCopyConstraint | None,
    ) -> Iterator[tuple[int, list[int]]]:
        """Yield the number of each prompt with the tokens of its answer, as they are finished.

        `lengths` are about the tokens of the prompts, which `collate` makes a left-padded batch of.
        """
        queue = deque(sorted(range(len(lengths)), key=lambda number: (lengths[number], number)))
        while queue or self.rows:
            num_free = self.slots.num_slots - len(self.rows)
            if queue and (not self.rows or num_free >= REFILL_SHARE * self.slots.num_slots):
                while queue and num_free > 0:
                    taken = _fitting(queue, lengths, num_free)
                    num_free -= len(taken)
                    self._prefill(taken, collate(taken), constraint)
            else:
                self._step(constraint)
            yield from self._finished()

    def _prefill(self, numbers: Sequence[int], batch: dict[str, Tensor], constraint: KeywordCopyConstraint | None) -> None:
        model = self.model.model
        ids_NL, mask_NL = batch["input_ids"], batch["attention_mask"]
        positions_3NL, _ = model.get_rope_index(
            ids_NL, batch["mm_token_type_ids"], batch.get("image_grid_thw"), batch.get("video_grid_thw"), attention_mask=mask_NL
        )
        cache = DynamicCache(config=self.model.config.get_text_config())
        last_N = torch.full((len(numbers),), ids_NL.shape[1] - 1, device=ids_NL.device)
        states_ND = hidden_states_at(model, last_N, **batch, position_ids=positions_3NL, **{CACHE: cache}, use_cache=True)
        scores_NV = self._scores(states_ND)
        self.slots.reserve(ids_NL.shape[1] + self.stops.max_new_tokens + self.max_draft + 1)
        next_N = (positions_3NL.amax(0).masked_fill(mask_NL == 0, -1).amax(1) + 1).tolist()
        for place, (number, ids, mask) in enumerate(zip(numbers, ids_NL, mask_NL, strict=True)):
            prompt = ids[mask.bool()].tolist()
            self.slots.fill(len(self.rows), cache, place, len(prompt))
            row = Row(number, len(prompt), next_N[place], Drafter(self.habits, prompt))
            self.rows.append(row)
            self._keep(row, [], scores_NV[place : place + 1], constraint)

    def _step(self, constraint: KeywordCopyConstraint | None) -> None:
        """Check a draft of each row in one pass. Before it, the last token of a row is not in its slot yet."""
        self.num_steps += 1
        room = [self.stops.max_new_tokens - len(row.ids) - 1 for row in self.rows]
        drafts = [row.drafter.draft(min(self.max_draft, left)) if left > 0 else [] for row, left in zip(self.rows, room, strict=True)]
        num_new = max(map(len, drafts)) + 1
        device = self.model.device
        ids_NK = torch.tensor(
            [[row.ids[-1], *draft, *[self.stops.pad] * (num_new - 1 - len(draft))] for row, draft in zip(self.rows, drafts, strict=True)],
            device=device,
        )
        seen_N1KT = self.slots.at([row.length for row in self.rows], num_new, device)
        positions_NK = torch.tensor([row.position for row in self.rows], device=device)[:, None] + torch.arange(num_new, device=device)
        states_NKD = self.model.model.language_model(
            inputs_embeds=self.model.get_input_embeddings()(ids_NK),
            attention_mask=seen_N1KT,
            position_ids=positions_NK.expand(3, -1, -1),
            **{CACHE: self.slots},
            use_cache=True,
        ).last_hidden_state
        used_NK = torch.arange(num_new, device=device) <= torch.tensor(list(map(len, drafts)), device=device)[:, None]
        scores_RV = self._scores(states_NKD[used_NK])
        start = 0
        for row, draft in zip(self.rows, drafts, strict=True):
            num_kept = self._keep(row, draft, scores_RV[start : start + len(draft) + 1], constraint)
            start += len(draft) + 1
            row.length += num_kept
            row.position += num_kept

    def _scores(self, states: Tensor) -> Tensor:
        scores = self.model.lm_head(states).float()
        if self.stops.suppressed:
            scores[:, list(self.stops.suppressed)] = -torch.inf
        return scores

    def _keep(self, row: Row, draft: Sequence[int], scores_KV: Tensor, constraint: KeywordCopyConstraint | None) -> int:
        """Keep the part of a draft that the model agrees with, and the token that it writes next; return how many these are."""
        best = scores_KV.argmax(-1).tolist() if constraint is None else None
        kept: list[int] = []
        for place in range(len(draft) + 1):
            if best is None:
                assert constraint is not None
                token = constraint.likeliest(row.number, scores_KV[place])
                constraint.take(row.number, token)
            else:
                token = best[place]
            kept.append(token)
            if token in self.stops.ends or len(row.ids) + len(kept) >= self.stops.max_new_tokens:
                break
            if place < len(draft) and token != draft[place]:
                break
        row.ids += kept
        row.drafter.take(kept)
        return len(kept)

    def _finished(self) -> Iterator[tuple[int, list[int]]]:
        """Yield the rows that are done, and put the last row in each one's slot."""
        for slot in range(len(self.rows) - 1, -1, -1):
            row = self.rows[slot]
            if row.ids[-1] not in self.stops.ends and len(row.ids) < self.stops.max_new_tokens:
                continue
            last = self.rows.pop()
            if last is not row:
                self.slots.move(len(self.rows), slot, last.length)
                self.rows[slot] = last
            self.habits.learn(row.ids)
            yield row.number, row.ids


def _fitting(queue: deque[int], lengths: Sequence[int], num_free: int) -> list[int]:
    """Take the prompts of one batch from the front of a queue that rises in length."""
    taken = [queue.popleft()]
    while queue and len(taken) < num_free and (len(taken) + 1) * lengths[queue[0]] <= PREFILL_TOKENS:
        taken.append(queue.popleft())
    return taken
