"""One network of an objective with its optimiser, as the training loop handles it."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from ..errors import UsageError
from . import processes
from .batches import last
from .gradients import sum_gradients
from .options import TrainOptions
from .tensorfile import gathered, named_tensors

_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def accelerator_for(options: TrainOptions, flag: str = "--train.precision") -> Accelerator:
    """The device, precision and loss scaling of this process; `flag` is what asked for them.

    Raises:
        UsageError: fp16 without a GPU.
    """
    gpu = torch.cuda.is_available()
    if options.precision == "fp16" and not gpu:
        raise UsageError(f"{flag} fp16 needs a GPU; use bf16 or fp32")
    AcceleratorState._reset_state()  # a second training in one process may differ in precision
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
        return Accelerator(
            mixed_precision=_PRECISION[options.precision], cpu=processes.world() > 1 and not gpu
        )


class Player:
    """One network with its optimiser.

    Args:
        module: the network; moved to the device, and left in training mode.
        options: of the loop.
        accelerator: device, autocast and loss scaling.
    """

    def __init__(self, module: nn.Module, options: TrainOptions, accelerator: Accelerator) -> None:
        self.module = module.to(accelerator.device).train()
        self._accelerator = accelerator
        if options.channels_last:
            for parameter in module.parameters():
                parameter.data = last(parameter.data)
        processes.copy_from_main([*module.parameters(), *module.buffers()])
        self._sharded = options.shard and processes.world() > 1
        if self._sharded:
            _shard(module, accelerator.device)
        self.named: dict[str, nn.Parameter] = {
            name: tensor
            for name, tensor in named_tensors(module).items()
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad
        }
        self.parameters = list(self.named.values())
        self._optimizer = torch.optim.AdamW(
            self.parameters,
            lr=options.learning_rate,
            betas=options.betas,
            weight_decay=options.weight_decay,
            fused=accelerator.device.type in ("cuda", "cpu"),
        )
        # "evaluation" only leaves out DistributedDataParallel, see gradients.py.
        self.network: nn.Module = accelerator.prepare_model(self.module, evaluation_mode=True)
        if options.compile:
            self.network.compile()

    def set_rate(self, rate: float) -> None:
        """Set the learning rate."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    def update(self, clip: float) -> Tensor:
        """Step along the gradients of all processes, forget them, and return their norm.

        The loop updates the loss scale, once after all players of a turn.
        """
        if not self._sharded:
            sum_gradients(self.parameters)
        scaler = self._accelerator.scaler
        if scaler is not None:
            scaler.unscale_(self._optimizer)
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if clip:
            nn.utils.clip_grads_with_norm_(self.parameters, clip, norm)
        if scaler is None:
            self._optimizer.step()
        else:
            scaler.step(self._optimizer)  # no step where a gradient overflowed
        self.forget()
        return gathered(norm)

    def forget(self) -> None:
        """Drop the gradients."""
        self._optimizer.zero_grad()

    def optimizer_state(self) -> dict[str, dict[str, Tensor]]:
        """The optimiser's tensors by parameter and kind."""
        state = self._optimizer.state
        return {name: dict(state[p]) for name, p in self.named.items() if p in state}

    def load_optimizer_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from `optimizer_state()`."""
        numbered = {i: dict(state[name]) for i, name in enumerate(self.named) if name in state}
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": numbered, "param_groups": groups})

    def release(self) -> None:
        """Undo what was done to the network for training."""
        self.module = self._accelerator.unwrap_model(self.network, keep_fp32_wrapper=False)
        self.module._compiled_call_impl = None
        self.module.eval()


def backward(players: Sequence[Player], loss: Tensor) -> None:
    """Add the gradient of `loss` to the parameters of `players`, and to no others'."""
    first = players[0]
    if first._sharded:  # reaches the other players' too; the loop has them forgotten
        first._accelerator.backward(loss * processes.world())  # FSDP takes the mean
    else:
        inputs = [parameter for player in players for parameter in player.parameters]
        first._accelerator.backward(loss, inputs=inputs)


def _shard(module: nn.Module, device: torch.device) -> None:
    """Split the parameters of `module` over the processes, block by block (PyTorch's FSDP2)."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes.world(),))
    lists = [part for part in module.modules() if isinstance(part, nn.ModuleList | nn.Sequential)]
    for block in reversed([block for part in lists for block in part]):  # inner ones first
        if any(True for _ in block.parameters()):
            fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
