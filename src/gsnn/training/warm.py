"""What the workers of a training import, imported once: a server forks workers that have it already.

Nothing here may start threads that matter, open files or touch a GPU: a fork would leave them behind.
"""

import contextlib
import importlib
import os
import signal
import warnings

SIGN = "GSNN_WARM"  # in the environment of the server alone
MODULES = (
    "torch", "torch._dynamo", "torch.nn.parallel.distributed", "torch.distributed.fsdp", "torch.distributed.tensor",
    "torch.distributed.tensor.parallel", "torch.utils.tensorboard", "lance", "rich.console", "rich.progress",
    "gsnn.run", "gsnn.steps.train", "gsnn.training.trainer", "gsnn.training.layout", "gsnn.training.parallel",
)  # fmt: skip

if os.environ.pop(SIGN, ""):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to all processes of a job: the server outlives the workers
    warnings.filterwarnings("ignore", "lance is not fork-safe")  # once it is at work; here it is only imported
    for _name in MODULES:
        with contextlib.suppress(ImportError):  # who needs it says so
            importlib.import_module(_name)
