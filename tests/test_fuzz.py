"""A few seeded cases of the fuzzer; `benchmarks/fuzz.py --minutes` does more."""

from pathlib import Path

import pytest

from benchmarks import fuzz
from pipeline.run import prepare


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> fuzz.Samples:
    return fuzz.make_samples(tmp_path_factory.mktemp("samples"))


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_no_damage_ends_in_a_traceback(
    kind: str, samples: fuzz.Samples, undisturbed: None, tmp_path: Path
) -> None:
    prepare()
    found = list(fuzz.fuzz(samples, tmp_path / "case", iter(range(0, 20)), (kind,)))
    assert len(found) == 20
    assert not [finding for finding in found if finding is not None]
