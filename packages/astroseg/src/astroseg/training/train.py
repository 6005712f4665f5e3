"""One trainer for every engine: stages, mixed precision, checkpoints, exact resumption.

Every random choice of a step is a function of (seed, step, process), so the state between
two steps is the weights, the optimizer's moments and the number of the step.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from astroseg.core.config import BRANCHES, Config, config_hash, configured, leaves, to_dict
from astroseg.core.device import choose_device
from astroseg.core.errors import AstrosegError, OutputError
from astroseg.core.files import remove_abandoned, write_json
from astroseg.core.samples import Sample
from astroseg.data.loader import open_stream
from astroseg.engines import get_engine
from astroseg.engines.base import Engine
from astroseg.training.architecture import as_built_in, configuration
from astroseg.training.distributed import Group, amp_dtype, joined
from astroseg.training.interrupt import interruptible
from astroseg.training.prepare import (
    Plan,
    check_resumable,
    checkpoint_meta,
    describe,
    load_weights,
    prepare,
)
from astroseg.training.runlog import LOG_NAME, RunLog
from astroseg.training.running_mean import RunningMean
from astroseg.training.schedule import Stage, learning_rate, locate
from astroseg.training.state import RunState, read_state, write_state
from astroseg.training.trackers import check_trackers, open_trackers
from astroseg.training.validate import swapped, validate

STATE_NAME = "state.safetensors"
LAST_NAME = "last.safetensors"
BEST_NAME = "best.safetensors"
CONFIG_NAME = "config.json"
WRITTEN = (STATE_NAME, LAST_NAME, BEST_NAME, CONFIG_NAME, LOG_NAME)
"""Files that are replaced whole, of which a killed run may leave a part."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes
    ----------
    checkpoint : the weights to use: the best by validation AP, else the last.
    step, steps : updates done, and those of the whole run.
    interrupted : whether it was asked to stop; it can be resumed.
    best : validation score of the best step, and that step.
    """

    checkpoint: Path
    step: int
    steps: int
    interrupted: bool
    best: tuple[float, int] | None


def train(
    train_file: str | Path,
    out: str | Path,
    config: Config | None = None,
    *,
    val_file: str | Path | None = None,
    resume: bool = False,
    engine: Engine | str | None = None,
    quiet: bool = False,
    **words: Any,
) -> TrainResult:
    """Train a model on a COCO dataset.

    Parameters
    ----------
    train_file, val_file : COCO files; without the second the last weights are the result.
    out : folder of the run.
    config : settings; `words` (``model="tiny", steps=300``) win over them.
    resume : go on where a run in `out` stopped, exactly as it would have gone on.
    engine : instead of the one the configuration names.

    Raises
    ------
    InputError
        For anything wrong with the data or the settings.
    OutputError
        When `out` holds another run or cannot be written.
    AstrosegError
        When the loss diverges.
    """
    if isinstance(engine, str):
        words["engine"], engine = engine, None
    config = as_built_in(configured("train", config, **words))
    check_trackers(config.train.log_to)
    out = Path(out)
    state_path = out / STATE_NAME
    if state_path.exists() and not resume:
        raise OutputError(
            "holds a run already", file=out, remedy="go on with --resume, or give another --out"
        )
    state = read_state(state_path) if resume else None
    device = choose_device(config.train.device)
    named = (
        "detectron2" if config.model.file and config.model.engine == "auto" else config.model.engine
    )
    file = configuration(config, engine.name if engine else named, state.config if state else {})
    engine = engine or get_engine(named, file)
    with joined(device) as group:
        plan = prepare(
            Path(train_file),
            None if val_file is None else Path(val_file),
            config,
            engine,
            device,
            file=file,
            rank=group.rank,
            ranks=group.ranks,
            quiet=quiet or not group.leads,
        )
        if state is not None:
            check_resumable(state.config, plan.fingerprint, state_path)
        run = _Run(plan, out, device, group, state)
        return run.train(quiet=quiet or not group.leads)


class _Run:
    """A run under way: model, optimizer and counters, stepped to the end."""

    def __init__(
        self, plan: Plan, out: Path, device: torch.device, group: Group, state: RunState | None
    ) -> None:
        self.plan, self.out, self.device, self.group = plan, out, device, group
        self.model = plan.engine.build(plan.spec, plan.config.train.seed)
        self.placed = "" if state else load_weights(plan, self.model)
        self.step = 0
        self.best: tuple[float, int] | None = None
        self.amp = amp_dtype(plan.config.train.amp, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp == torch.float16)
        self.optimizer: torch.optim.Optimizer | None = None
        self._stored_optimizer: Mapping[str, Any] | None = None
        self.ema = RunningMean(plan.schedule.ema)
        self.pending: list[_Step] = []
        self.last: dict[str, float] = {}
        if device.type == "cuda":
            # Windows of one size: the fastest convolutions are worth looking for.
            torch.backends.cudnn.benchmark = plan.schedule.crop > 1
        if state is not None:
            self.model.load_state_dict(dict(state.model))
            self.step, self.best = state.step, state.best
            self._stored_optimizer = state.optimizer
            self.scaler.load_state_dict(dict(state.scaler))
        self.model.to(device)
        self.model.train()
        self.ema.start(self.model, state.ema if state is not None else {}, device)

    def train(self, *, quiet: bool) -> TrainResult:
        plan = self.plan
        if self.group.leads:
            remove_abandoned(self.out, WRITTEN)
            self._write_config()
        with (
            _Log.opened(self, quiet) as log,
            interruptible() as interrupt,
        ):
            batches = open_stream(plan.samples, plan.stream, self.step, plan.workers)
            stopped = False
            while self.step < plan.steps and not stopped:
                waited = time.perf_counter()
                parts = [next(batches) for _ in range(plan.stream.parts)]
                waited = time.perf_counter() - waited
                self._update(parts)
                log.step(self, waited)
                stopped = self._asked_to_stop(interrupt)
                if self._due(plan.config.train.validate_every, self._validation_interval()):
                    self._settle()
                    self._validate(log)
                    stopped = stopped or self._converged()
                if stopped or self._due(
                    plan.config.train.save_every, max(100, plan.steps_per_epoch)
                ):
                    self._save()
        return TrainResult(
            checkpoint=self.out / (BEST_NAME if self.best else LAST_NAME),
            step=self.step,
            steps=plan.steps,
            interrupted=self.step < plan.steps and not self._converged(),
            best=self.best,
        )

    def _asked_to_stop(self, interrupt: threading.Event) -> bool:
        """Whether a process was interrupted; several ask each other only at steps of the log."""
        if self.group.ranks > 1 and not self._due(self.plan.config.train.log_every, 1):
            return False
        return self.group.any(interrupt.is_set(), self.device)

    def _converged(self) -> bool:
        """Whether validation has not bettered for as long as the configuration waits."""
        patience, best = self.plan.config.train.patience, self.best
        every = self.plan.config.train.validate_every or self._validation_interval()
        late = best is not None and self.step - best[1] >= patience * every
        return self.group.any(bool(patience and late), self.device)

    def _validation_interval(self) -> int:
        """One epoch, or a tenth of the run where that is longer."""
        return max(self.plan.steps_per_epoch, self.plan.steps // 10)

    def _due(self, every: int, default: int) -> bool:
        return self.step % (every or default) == 0 or self.step == self.plan.steps

    def _update(self, parts: Sequence[Sequence[Sample]]) -> None:
        """One step: gradients of all parts, averaged over processes, applied.

        Nothing of it is asked back from the device: a GPU would stand still.
        """
        plan, place = self.plan, locate(self.plan.lengths, self.step)
        stage = plan.schedule.stages[place.stage]
        if self.optimizer is None or place.step == 0:
            self._start_stage(stage, begun=place.step > 0)
        assert self.optimizer is not None
        rate = learning_rate(stage, place.step, plan.lengths[place.stage])
        for values in self.optimizer.param_groups:
            values["lr"] = rate
        torch.manual_seed(_seed(plan.config.train.seed, self.step, self.group.rank))
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._backward(parts)
        parameters = [p for values in self.optimizer.param_groups for p in values["params"]]
        self.group.average_gradients(parameters)
        self.scaler.unscale_(self.optimizer)
        losses["gradient_norm"] = clipped(parameters, stage.clip)
        images = tuple(sample.image_id for part in parts for sample in part)
        numbers = torch.stack([value.float() for value in losses.values()])
        self.pending.append(_Step(self.step, rate, images, tuple(losses), numbers))
        if self.device.type == "cpu":
            self._settle()  # costs nothing, and the weights stay as they were before the step
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self.ema.move(self.step)

    def _settle(self) -> dict[str, float]:
        """Check the steps since the last call; returns the losses of the last one."""
        steps, self.pending = self.pending, []
        for step in steps:
            self.last = dict(zip(step.names, step.values.tolist(), strict=True))
            # fp16 overflows now and then; its scaler then skips the step. Else it is the end.
            checked = {
                name: value
                for name, value in self.last.items()
                if name != "gradient_norm" or not self.scaler.is_enabled()
            }
            if not all(math.isfinite(value) for value in checked.values()):
                raise _diverged(step, checked)
            self.last["lr"] = step.rate
        return self.last

    def _start_stage(self, stage: Stage, *, begun: bool) -> None:
        groups = self.plan.engine.param_groups(self.model, stage.freeze)
        groups = [values for values in groups if values["params"]]
        rate, decay = stage.lr, stage.weight_decay
        if stage.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(groups, rate, stage.momentum, weight_decay=decay)
        else:
            self.optimizer = torch.optim.AdamW(groups, rate, weight_decay=decay)
        # A state saved on the last step of a stage holds the optimizer of that stage.
        if begun and self._stored_optimizer is not None:
            self.optimizer.load_state_dict(dict(self._stored_optimizer))
        self._stored_optimizer = None

    def _backward(self, parts: Sequence[Sequence[Sample]]) -> dict[str, torch.Tensor]:
        totals: dict[str, torch.Tensor] = {}
        for part in parts:
            with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
                losses = self.plan.engine.losses(self.model, part)
            total = torch.stack([value.float() for value in losses.values()]).sum() / len(parts)
            self.scaler.scale(total).backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value.detach().float() / len(parts)
        values = self.group.average(torch.stack(list(totals.values())))
        return {"loss": values.sum(), **dict(zip(totals, values, strict=True))}

    def _validate(self, log: _Log) -> None:
        plan = self.plan
        if plan.indices and self.group.leads and plan.validation is not None:
            with swapped(self.model, self.ema.weights):
                torch.manual_seed(plan.config.train.seed)
                scores = validate(
                    plan.engine,
                    self.model,
                    plan.validation,
                    plan.indices,
                    plan.spec.score_threshold,
                    plan.config,
                )
                log.validation(self, scores)
                score = scores["mask_ap"]
                if math.isfinite(score) and (self.best is None or score > self.best[0]):
                    self.best = (score, self.step)
                    self._save_weights(BEST_NAME)
        self.group.wait()

    def _save_weights(self, name: str) -> None:
        meta = checkpoint_meta(self.plan, self.step)
        self.plan.engine.save(self.model, self.out / name, meta)

    def _save(self) -> None:
        """The model for use, then the state for resumption, which alone must be whole."""
        self._settle()
        if not self.group.leads:
            return
        with swapped(self.model, self.ema.weights):
            self._save_weights(LAST_NAME)
        assert self.optimizer is not None
        write_state(
            self.out / STATE_NAME,
            RunState(
                step=self.step,
                model=self.model.state_dict(),
                ema=self.ema.weights,
                optimizer=self.optimizer.state_dict(),
                scaler=self.scaler.state_dict(),
                best=self.best,
                config=self.plan.fingerprint,
            ),
        )

    def _write_config(self) -> None:
        write_json(
            self.out / CONFIG_NAME,
            {
                "config": to_dict(self.plan.config),
                "config_hash": config_hash(self.plan.config),
                "resolved": self.plan.fingerprint,
                "versions": {**self.plan.engine.versions(), "torch": torch.__version__},
                "device": str(self.device),
                "processes": self.group.ranks,
            },
            indent=1,
        )


class _Log:
    """What `_Run` passes to `RunLog`; writes nothing in the processes that do not lead."""

    def __init__(self, log: RunLog | None, every: int) -> None:
        self._log, self._every = log, every
        self._since = time.perf_counter()
        self._waited, self._steps = 0.0, 0

    @classmethod
    @contextmanager
    def opened(cls, run: _Run, quiet: bool) -> Iterator[_Log]:
        plan = run.plan
        if not run.group.leads:
            yield cls(None, plan.config.train.log_every)
            return
        settings = leaves(plan.config, *BRANCHES["train"])
        trackers = open_trackers(plan.config.train.log_to, run.out, run.step, settings)
        with RunLog(
            run.out, start=run.step, steps=plan.steps, quiet=quiet, trackers=trackers
        ) as log:
            log.say(describe(plan, run.model, run.device))
            if run.placed:
                log.say(run.placed)
            if run.step:
                log.say(f"resumed after step {run.step}")
            yield cls(log, plan.config.train.log_every)

    def step(self, run: _Run, waited: float) -> None:
        due = run.step % self._every == 0 or run.step == run.plan.steps
        losses = run._settle() if due else run.last
        if self._log is None:
            return
        self._log.advance(losses.get("loss"))
        self._waited, self._steps = self._waited + waited, self._steps + 1
        if not due:
            return
        now = time.perf_counter()
        seconds = (now - self._since) / self._steps
        speed = {
            "seconds_per_step": seconds,
            "images_per_second": run.plan.schedule.batch / seconds,
            "waited_for_data": self._waited / (now - self._since),
        }
        self._since, self._waited, self._steps = now, 0.0, 0
        place = locate(run.plan.lengths, run.step - 1)
        stage = run.plan.schedule.stages[place.stage].name
        epoch = run.step * run.plan.schedule.batch / len(run.plan.samples)
        self._log.line(run.step, "train", {"stage": stage, "epoch": epoch, **losses, **speed})

    def validation(self, run: _Run, scores: Mapping[str, float]) -> None:
        if self._log is None:
            return
        self._log.line(run.step, "validation", scores)
        self._log.say(
            f"step {run.step}: validation loss {scores['loss']:.3f}, mask AP "
            f"{scores['mask_ap']:.3f} (AP50 {scores['mask_ap50']:.3f}), box AP "
            f"{scores['box_ap']:.3f}"
        )
        self._since, self._waited, self._steps = time.perf_counter(), 0.0, 0


@dataclass(frozen=True, eq=False)
class _Step:
    """What a step gave, still on the device.

    Attributes
    ----------
    step, rate, images : its number from 0, learning rate and images' ids.
    names, values : of losses and gradient.
    """

    step: int
    rate: float
    images: tuple[int, ...]
    names: tuple[str, ...]
    values: torch.Tensor


def clipped(parameters: Sequence[torch.nn.Parameter], most: float) -> torch.Tensor:
    """Norm of all gradients, which are then scaled to that at most; 0 leaves them.

    Scaling by one, as PyTorch's function would, reads and writes them all once more.
    """
    if most:
        return torch.nn.utils.clip_grad_norm_(parameters, most)
    every = [p.grad for p in parameters if p.grad is not None]
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in every]))


def _diverged(step: _Step, values: Mapping[str, float]) -> AstrosegError:
    names = [name for name, value in values.items() if not math.isfinite(value)]
    bad = ", ".join(name for name in names if name != "gradient_norm") or "the gradient"
    return AstrosegError(
        f"training diverged at step {step.step + 1}: {bad} is not finite (learning rate "
        f"{step.rate:.3g}, images {', '.join(map(str, step.images))})",
        remedy="lower --lr, add warm-up or clipping in a schedule file, or turn off --amp",
    )


def _seed(seed: int, step: int, rank: int) -> int:
    """Seed of torch's generators in one step."""
    return int(np.random.SeedSequence((seed, 2, step, rank)).generate_state(1, np.uint32)[0])
