"""The loop that nano's trainings share: time, learning rate, gradients, averages, log, checkpoint.

It knows neither data nor loss. Started again with the same folder it goes on where it stopped; the schedule
follows the processor time of training, so that other work on the machine makes it longer and not shorter.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tools.nano import crew

LOG_EVERY = 25  # steps
CLIP = 1.0  # norm of the gradients, at most
AVERAGE = 0.998
BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Learner:
    """What a training changes: `module` is averaged and shipped, `helpers` serve in training alone.

    `name` is the name of log and checkpoint, `key` the weights' in it; `groups` are AdamW's.
    """

    name: str
    key: str
    module: nn.Module
    helpers: nn.Module
    groups: list[dict[str, Any]]
    save_every: int


def begun(learner: Learner, given: argparse.Namespace) -> bool:
    """Whether there is a checkpoint to go on from."""
    path = given.out / f"{learner.name}.pt"
    return bool(path.exists())


def run(
    learner: Learner,
    given: argparse.Namespace,
    member: crew.Member,
    losses: Callable[[int, float], tuple[Tensor, dict[str, float]]],
) -> None:
    """Train until the minutes are used up; `losses` makes loss and figures of a step, told its progress."""
    adam = torch.optim.AdamW(learner.groups, lr=given.peak, betas=BETAS)
    average = crew.Average(learner.module, AVERAGE)
    path, step, before = given.out / f"{learner.name}.pt", 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True, map_location=member.device)
        learner.module.load_state_dict(state[learner.key])
        learner.helpers.load_state_dict(state["helpers"])
        adam.load_state_dict(state["adam"])
        average.restore(state["average"])
        step, before = int(state["step"]), float(state["seconds"])
    parameters = [p for group in adam.param_groups for p in group["params"]]
    clock, rows, progress = crew.Clock(before, member.device), [], before / (60 * given.minutes)
    while progress < 1:
        for group in adam.param_groups:
            group["lr"] = crew.rate(progress, peak=given.peak)
        with attention(member.device):
            loss, figures = losses(step, progress)
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        progress = crew.share_gradients(parameters, clock.seconds() / (60 * given.minutes))
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()
        average.update(learner.module)
        step += 1
        rows.append(figures)
        if member.rank == 0 and step % LOG_EVERY == 0:
            row = {"step": step, "seconds": clock.seconds(), "rate": adam.param_groups[0]["lr"]}
            crew.log_line(given.out / f"{learner.name}.jsonl", row | crew.mean_of(rows))
            rows = []
        if member.rank == 0 and (step % learner.save_every == 0 or progress >= 1):
            state = {learner.key: learner.module.state_dict(), "helpers": learner.helpers.state_dict()}
            state |= {"adam": adam.state_dict(), "average": average.state(), "step": step}
            crew.save(path, state | {"seconds": clock.seconds(), "crew": member.size})


def attention(device: torch.device) -> AbstractContextManager[None]:
    """Plain attention on a CPU, where it is faster than the fused kernel at these sizes."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def fused_attention() -> AbstractContextManager[None]:
    """The fused kernels again, within a step."""
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def multiplied_in_bfloat16(member: crew.Member, *, enabled: bool) -> AbstractContextManager[Any]:
    """Half of the bytes and more speed where the machine has it."""
    return torch.autocast(member.device.type, torch.bfloat16, enabled=enabled)
