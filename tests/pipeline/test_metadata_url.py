"""A metadata URL becomes ML Metadata's own settings; a password never stands in it."""

from pathlib import Path

import pytest

from headrace.data.errors import ConfigError, EnvironmentProblem
from headrace.pipeline.cluster import MetadataConfig
from headrace.pipeline.metadata_url import connection_config


def test_without_a_url_it_is_the_file_of_the_store(tmp_path: Path) -> None:
    found = connection_config(MetadataConfig(), str(tmp_path / "store" / "metadata.sqlite"))
    assert found.sqlite.filename_uri == str(tmp_path / "store" / "metadata.sqlite")
    assert (tmp_path / "store").is_dir()


def test_mysql_with_a_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hush")
    found = connection_config(MetadataConfig(url="mysql://ml%40md@db/meta", password_env="DB_PASSWORD"), "")
    mysql = found.mysql
    assert (mysql.host, mysql.port, mysql.database) == ("db", 3306, "meta")
    assert (mysql.user, mysql.password) == ("ml@md", "hush")


def test_postgresql_with_a_password_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hush\n")
    config = MetadataConfig(
        url="postgresql://mlmd@db:5433/meta?sslmode=require", password_file=str(tmp_path / "password")
    )
    postgresql = connection_config(config, "").postgresql
    assert (postgresql.host, postgresql.port, postgresql.dbname) == ("db", "5433", "meta")
    assert (postgresql.password, postgresql.ssloption.sslmode) == ("hush", "require")


def test_an_unknown_mode_of_encryption_is_refused() -> None:
    config = MetadataConfig(url="postgresql://mlmd@db/meta?sslmode=maybe")
    with pytest.raises(ConfigError, match=r"`sslmode` must be one of disable, .*Received: maybe"):
        connection_config(config, "")


def test_a_missing_password_file_is_told(tmp_path: Path) -> None:
    config = MetadataConfig(url="mysql://mlmd@db/meta", password_file=str(tmp_path / "none"))
    with pytest.raises(EnvironmentProblem, match=r"`metadata.password_file` must be readable"):
        connection_config(config, "")


@pytest.mark.parametrize(
    "url", ["sqlite:///x", "mysql://db", "mysql://u:hush@db/x", "mysql://u:hush@db", "http://db/x"]
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    from headrace.pipeline.config import parse_config
    from tests.e2e.project import CONFIG

    with pytest.raises(ConfigError, match=r"metadata") as caught:
        parse_config({**CONFIG, "metadata": {"url": url}})
    assert "hush" not in caught.value.message
