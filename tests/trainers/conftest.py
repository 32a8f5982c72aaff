"""What several tests of the workers share: random weights under the names of the published ones."""

from __future__ import annotations

import pytest

from tests.trainers import published


@pytest.fixture(scope="session")
def alexnet_file(tmp_path_factory) -> dict[str, str]:
    return published.write(tmp_path_factory.mktemp("weights"), ALEXNET=published.alexnet())


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    return published.write(folder, INCEPTION=published.inception(folder))


@pytest.fixture
def with_alexnet(alexnet_file, monkeypatch) -> dict[str, str]:
    published.use(alexnet_file, monkeypatch)
    return alexnet_file


@pytest.fixture
def with_inception(inception_file, monkeypatch) -> dict[str, str]:
    published.use(inception_file, monkeypatch)
    return inception_file
