"""What every test rests on: shapes are checked, randomness is seeded, threads are few."""

import sys
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests import checked

if TYPE_CHECKING:
    from deepalign_cli.cluster import Cluster

# Before anything imports the package: every signature's types and shapes are checked from here on.
assert not any(name.partition(".")[0] == "deepalign_cli" for name in sys.modules)
checked.install("deepalign_cli")

import torch  # noqa: E402 (the hook comes first)

torch.set_num_threads(1)  # the networks are small, and tests may run side by side

hypothesis.settings.register_profile(
    "deepalign",
    deadline=None,  # the first example pays for imports
    derandomize=True,  # the same examples everywhere; a failure is never luck
    print_blob=True,
)
hypothesis.settings.load_profile("deepalign")


# Of tests that take every architecture, `-m "not slow"` runs these: one of each kind.
FEW = {"named_mlp", "plain_cnn_bn", "cifar_resnet", "transformer_prenorm"}
SHARE = 3  # of the cases of a slow test one in so many is run; --all-cases runs them all


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-cases", action="store_true", help="run every case of slow tests, not a third")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    from tests.nets import ALL

    others = ALL.keys() - FEW
    for item in items:
        case = getattr(item, "callspec", None)
        if case and any(isinstance(value, str) and value in others for value in case.params.values()):
            item.add_marker("slow")
    if not config.getoption("all_cases") and len({item.path for item in items}) > 1:
        _thin(config, items)


def _thin(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave a third of the cases of every slow test, at least one: each test another third of them."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if hasattr(item, "callspec") and item.get_closest_marker("slow"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left_out = set()
    for name, own in cases.items():
        first = zlib.crc32(name.encode()) % min(SHARE, len(own))
        left_out |= set(own) - set(own[first::SHARE])
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def cluster() -> Iterator["Cluster"]:
    """Two workers of this machine, for all tests that need some."""
    from deepalign_cli.cluster import connected

    with connected("dask", 2) as opened:
        yield opened


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, _cache: str) -> None:
    monkeypatch.setenv("DEEPALIGN_CACHE", _cache)  # traces are kept there, not in the user's own
    for name in ("COLUMNS", "DEEPALIGN_DEBUG", "FORCE_COLOR", "GITHUB_ACTIONS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
