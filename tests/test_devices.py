"""The same programs on every kind of device, on several devices, and compiled once for a job."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import export

from policies.agent import fresh_memory
from policies.planners import build_planner
from policies.settings import PlanningSettings
from stages import transfer
from stages.acting import jitted_act
from stages.settings import TrainingSettings
from stages.training_loop import TrainingLoop
from stages.training_step import build_step, initial_state, place
from tests import tiny
from world_models.layers import each
from world_models.time_scan import weight_gradient

ROOT = Path(__file__).parent.parent
PLATFORMS = ("cpu", "cuda", "tpu")
OBSERVATIONS = {"state": tiny.STATE, "image": tiny.IMAGE}
NEAR = 2e-4  # of a parameter, after an update of sums in another order


def lowers(call: Callable[..., Any], *arguments: Any) -> None:
    """Lower a call for every platform, which needs none of their devices."""
    dynamic, static = eqx.partition(arguments, eqx.is_array)

    def program(dynamic: Any) -> Any:
        return eqx.filter(call(*eqx.combine(dynamic, static)), eqx.is_array)

    exported = export.export(jax.jit(program), platforms=PLATFORMS)(dynamic)
    assert exported.platforms == PLATFORMS
    assert exported.mlir_module_serialized


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("state", "float32"),
        ("image", "bfloat16"),
        pytest.param("state", "bfloat16", marks=pytest.mark.slow),
        pytest.param("image", "float32", marks=pytest.mark.slow),
    ],
)
def test_an_update_lowers_for_every_platform(kind: str, precision: Any) -> None:
    training = TrainingSettings(updates_per_call=2, precision=precision)
    step = build_step(training, tiny.CURIOSITY, "explore", 8)
    agent = tiny.agent(stage="explore", observation=OBSERVATIONS[kind])
    batch = tiny.batch(2, 3, 5, observation=OBSERVATIONS[kind])
    lowers(step, initial_state(agent, training), batch, jax.random.key(0))


@pytest.mark.parametrize(("kind", "planner"), [("state", "mppi"), ("image", "none")])
def test_acting_lowers_for_every_platform(kind: str, planner: Any) -> None:
    agent = tiny.agent(observation=OBSERVATIONS[kind])
    rows = tiny.batch(4, observation=OBSERVATIONS[kind])
    observation = {name: rows[name] for name in OBSERVATIONS[kind]}
    planning = PlanningSettings(samples=16)
    act = jitted_act(planner, planning, False)
    memory = fresh_memory(agent, 4, build_planner(planner, planning))
    lowers(act, agent, memory, observation, rows["is_first"], jax.random.key(0), np.uint32(0))


def updated(batch: dict[str, Any]) -> tuple[list[np.ndarray], dict[str, float]]:
    """The agent's arrays and the metrics after one call on a batch."""
    training = TrainingSettings(updates_per_call=1)
    step = build_step(training, tiny.CURIOSITY, "transfer", 8)
    state = initial_state(tiny.agent(stage="transfer"), training)
    state, metrics = step(state, batch, jax.random.key(0))
    arrays = [np.asarray(x) for x in jax.tree.leaves(eqx.filter(state.agent, eqx.is_array))]
    return arrays, {name: float(value) for name, value in metrics.items()}


def compare_sharded() -> None:
    """An update of eight devices' batches against one device's; run in a process of its own."""
    assert len(jax.devices()) == 8
    whole = {name: np.asarray(value) for name, value in tiny.batch(1, 8, 5).items()}
    shared = place(whole)
    assert all(len(array.sharding.device_set) == 8 for array in shared.values())
    assert shared["reward"].addressable_shards[0].data.shape == (1, 1, 5)
    arrays, metrics = updated(shared)
    expected, expected_metrics = updated({name: jax.numpy.asarray(v) for name, v in whole.items()})
    for found, wanted in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=NEAR)
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    # steps by time first, whose batch stays split: no device computes what is another's
    weight = jax.numpy.ones((3, 3))
    steps = place({"x": np.ones((5, 8, 3), np.float32)}, batch_axis=1)["x"]
    assert len(steps.sharding.device_set) == 8
    for function in (each(lambda x: x @ weight), lambda x: weight_gradient(x, x)):
        program = jax.jit(function).lower(steps).compile().as_text()
        assert "all-gather" not in program


def test_eight_devices_update_as_one_does() -> None:
    # first, since XLA reads no flag behind one that is not its own
    flags = f"--xla_force_host_platform_device_count=8 {os.environ['XLA_FLAGS']}"
    done = subprocess.run(
        [sys.executable, "-c", "from tests import test_devices as t; t.compare_sharded()"],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def compiled() -> Iterator[list[float]]:
    """Seconds of each compilation since the test began."""
    times: list[float] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            times.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield times
    jax.monitoring.clear_event_listeners()


def test_a_second_job_of_the_same_study_compiles_nothing(
    tmp_path: Path, compiled: list[float]
) -> None:
    """So nothing of a job depends on its seed."""
    study = tiny.study(transfer={"arms": {"scratch": {}}})
    for seed in (0, 1):
        warm, compiled[:] = len(compiled), []
        inputs = transfer.Inputs("desk/reach:dense", "scratch", seed)
        transfer.run(study, inputs, tmp_path / str(seed))
    assert warm > 0  # else the event has another name and the test is blind
    assert not compiled


def test_a_job_compiles_nothing_once_it_is_warm(
    tmp_path: Path, compiled: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So nothing depends on how long it has run: half of it is warm-up enough."""
    numbers: list[int] = []
    points = TrainingLoop._points

    def counting(loop: TrainingLoop) -> None:
        points(loop)
        numbers.append(len(compiled))

    monkeypatch.setattr(TrainingLoop, "_points", counting)
    # a size of its own, so that no other test has compiled it before
    study = tiny.study(behaviour={"imagination_starts": 7}, transfer={"arms": {"scratch": {}}})
    transfer.run(study, transfer.Inputs("desk/reach:dense", "scratch", 0), tmp_path)
    assert len(numbers) > 9
    assert numbers[-1] == numbers[len(numbers) // 2] > numbers[0] > 0
