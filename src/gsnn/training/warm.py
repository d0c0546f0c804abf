"""What the workers of a training import, imported once: a server forks workers that have it already.

Nothing here may start threads that matter, open files or touch a GPU: a fork would leave them behind.
"""

import contextlib
import importlib
import os
import signal
import warnings
from typing import Any

SIGN = "GSNN_WARM"  # in the environment of the server alone
MODULES = (
    "torch", "torch._dynamo", "torch.nn.parallel.distributed", "torch.distributed.fsdp", "torch.distributed.tensor",
    "torch.distributed.tensor.parallel", "torch.utils.tensorboard", "lance", "rich.console", "rich.progress",
    "gsnn.run", "gsnn.steps.train", "gsnn.training.trainer", "gsnn.training.layout", "gsnn.training.parallel",
)  # fmt: skip


def outlive(number: int, frame: Any, server: int = os.getpid()) -> None:
    """A signal to all processes of a job is not for the server, whose workers may have to save; but it is for them."""
    if os.getpid() != server:
        os._exit(128 + number)


if os.environ.pop(SIGN, ""):
    signal.signal(signal.SIGTERM, outlive)
    warnings.filterwarnings("ignore", "lance is not fork-safe")  # once it is at work; here it is only imported
    for _name in MODULES:
        with contextlib.suppress(ImportError):  # who needs it says so
            importlib.import_module(_name)
