"""Environment variables that must be set before JAX or MuJoCo are imported."""

import hashlib
import os
import platform
from collections.abc import MutableMapping
from pathlib import Path


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> int:
    """NVIDIA GPUs that this process may use, found without starting a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    if os.environ.get("JAX_PLATFORMS", "").split(",")[0] == "cpu":
        return 0
    return len([p for p in Path("/dev").glob("nvidia[0-9]*") if p.name[6:].isdigit()])


def default_jobs() -> int:
    """Jobs at once: one per GPU where there are any, else one per core."""
    return gpus() or cores()


def share_cores(environment: MutableMapping[str, str], jobs: int) -> None:
    """Give each of `jobs` processes its share of the cores; what the user has set stays.

    Eigen's and XLA's thread pools default to every core, so that N processes would fight over
    them: two processes of two threads on two cores run at half the speed of two of one thread.
    """
    share = max(1, cores() // jobs)
    environment.setdefault("OMP_NUM_THREADS", str(share))
    environment.setdefault("NPROC", str(share))  # size of XLA:CPU's thread pool
    # XLA:CPU allocates its temporaries anew at every call, and glibc gives large blocks back to the
    # kernel at once: page faults took a tenth of an update.
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**32))
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**33))
    # llvmpipe's own threads cost more than they bring when there is a process per core
    environment.setdefault("LP_NUM_THREADS", "0" if share == 1 else str(share))
    if share == 1 and not gpus():
        # With one thread an order of operations that lets them run beside each other gains nothing,
        # and costs some per cent of an update, presumably by keeping more arrays alive. Vectors of
        # 512 bits take 5 % off, where the processor has them, and sums that are not split into many
        # small ones first another 2 %.
        flags = (
            "--xla_cpu_multi_thread_eigen=false"
            " --xla_cpu_enable_concurrency_optimized_scheduler=false"
            " --xla_cpu_prefer_vector_width=512 --xla_disable_hlo_passes=tree_reduction_rewriter"
        )
        known = environment.get("XLA_FLAGS", "")
        if flags not in known:
            environment["XLA_FLAGS"] = f"{flags} {known}".strip()  # of two, the last one counts
    if jobs > 1 and gpus():
        each = 0.9 / -(-jobs // gpus())
        environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{each:.2f}")


def pin_gpu(environment: MutableMapping[str, str], worker: int) -> None:
    """Give worker number `worker` one GPU, in turn, where there are several."""
    number = gpus()
    if number > 1:
        visible = environment.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(i) for i in range(number)]
        environment["CUDA_VISIBLE_DEVICES"] = names[worker % number]


def processor() -> str:
    """A short name of the processor's abilities, which compiled programs depend on."""
    text = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        text += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass
    return hashlib.sha256(text.encode()).hexdigest()[:8]
