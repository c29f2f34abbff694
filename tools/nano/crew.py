"""Two processes of one thread each instead of one of two: their gradients meet once a step, over gloo.

On a machine that others use too, a barrier per step costs far less than one per operator. Where there is a
GPU one process has it for itself, a path nobody has run yet. Also here: the averaged copy of the weights,
checkpoints written whole or not at all, the log, the learning rate.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn


class Member(NamedTuple):
    """One process of a crew, and what it computes on."""

    rank: int
    size: int
    device: torch.device


def start_crew(size: int, folder: Path, work: Callable[[Member], None]) -> None:
    """Run `work` in `size` processes that exchange gradients, or in this one on a GPU; returns at the end."""
    if torch.cuda.is_available():
        work(Member(0, 1, torch.device("cuda")))
        return
    meeting = folder / f"meeting-{os.getpid()}"
    context = multiprocessing.get_context("fork")
    crew = [context.Process(target=_join, args=(rank, size, meeting, work)) for rank in range(size)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    if any(process.exitcode for process in crew):
        raise SystemExit("a training process failed; see its traceback above")


def _join(rank: int, size: int, meeting: Path, work: Callable[[Member], None]) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    work(Member(rank, size, torch.device("cpu")))
    dist.barrier()
    dist.destroy_process_group()


def share_gradients(parameters: Iterable[nn.Parameter], note: float) -> float:
    """Average all gradients over the crew; returns rank 0's `note`, the same for everyone."""
    if not dist.is_initialized():
        return note
    listed = list(parameters)
    mine = note if dist.get_rank() == 0 else 0.0
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in listed])
    flat = torch.cat([flat, torch.tensor([mine * dist.get_world_size()])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    at = 0
    for p in listed:
        p.grad = flat[at : at + p.numel()].reshape(p.shape).clone()
        at += p.numel()
    return float(flat[-1])


class Average:
    """A running average of the weights; it is what is shipped."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.values = {name: p.detach().clone() for name, p in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Once a step. Early on the average follows fast."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, p in module.state_dict().items():
            self.values[name].lerp_(p, 1 - decay)

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"steps": self.steps, "values": self.values}

    def restore(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.steps, self.values = int(state["steps"]), state["values"]


def save(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all."""
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def options(about: str | None, *, minutes: float, peak: float, seed: int) -> argparse.ArgumentParser:
    """What every training is told, with defaults of its own."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--peak", type=float, default=peak)
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument(
        "--start",
        type=Path,
        help="begin with the averages of this checkpoint, or with a PAM folder such as `nano`",
    )
    return parser


def log_line(path: Path, row: dict[str, Any]) -> None:
    """One more line of the log."""
    rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}
    with path.open("a", encoding="utf-8") as log:
        log.write(json.dumps(rounded) + "\n")


def rate(progress: float, *, peak: float, warm: float = 0.02, floor: float = 0.01) -> float:
    """Learning rate at a fraction of the run: linear warm-up, then a cosine down to `floor` of the peak."""
    if progress < warm:
        return peak * (0.02 + 0.98 * progress / warm)
    swing = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warm) / (1 - warm))))
    return peak * (floor + (1 - floor) * swing)


def groups(modules: Iterable[nn.Module], *, decay: float) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: weight decay on matrices alone."""
    parameters = [p for m in modules for p in m.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


class Clock:
    """Seconds of training, over all resumptions: on a CPU this process's own, so that a machine shared with
    others takes longer and trains no less.
    """

    def __init__(self, before: float, device: torch.device) -> None:
        self._now = time.process_time if device.type == "cpu" else time.monotonic
        self._before = before - self._now()

    def seconds(self) -> float:
        """So far."""
        return self._before + self._now()


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Each figure's mean over the rows that have it."""
    keys = {key for row in rows for key in row}
    return {k: sum(r[k] for r in rows if k in r) / sum(k in r for r in rows) for k in sorted(keys)}


def normalized(images: Tensor) -> Tensor:
    """uint8 [B, S, S, 3] -> what the vision tower reads, float32 [B, 3, S, S]."""
    mean = torch.tensor([0.485, 0.456, 0.406], device=images.device)
    std = torch.tensor([0.229, 0.224, 0.225], device=images.device)
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
