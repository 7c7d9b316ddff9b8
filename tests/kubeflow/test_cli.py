"""The commands as people type them: found lazily, errors in a line, what is missing is named."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace.data.errors import ConfigError
from headrace.kubeflow.cli import group
from headrace.kubeflow.compile import compile_pipeline
from headrace.kubeflow.rehearsal import rehearse
from tests.e2e.project import Project

pytestmark = pytest.mark.long


def test_compile_and_lint_by_command(tmp_path: Path) -> None:
    project = Project.make(tmp_path, rows=50)
    made = project.call("kubeflow", "compile", "demo.yaml", "--set", "training.epochs=1", "-o", "p.yaml")
    assert made.exit_code == 0, made.stderr
    assert made.stdout.startswith("wrote p.yaml: 16 steps and the report, ")
    assert "steps read /mnt/headrace/data/rows.csv; here it is rows.csv" in made.stderr
    assert "next: here: headrace kubeflow simulate demo.yaml --set training.epochs=1\n" in made.stdout
    checked = project.call("kubeflow", "lint", "p.yaml")
    assert (checked.exit_code, checked.stdout) == (0, "p.yaml keeps the rules\n")
    (tmp_path / "p.yaml").write_text((tmp_path / "p.yaml").read_text().replace("2.1.0", "2.0.0", 1))
    broken = project.call("kubeflow", "lint", "p.yaml")
    assert broken.exit_code == 2
    assert "[schema] schemaVersion must be 2.1.0" in broken.stderr


def test_columns_are_checked_where_the_data_are_at_hand(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    config, output = tmp_path / "demo.yaml", tmp_path / "p.yaml"
    with pytest.raises(ConfigError, match=r"Received: no label column 'lat'"):
        compile_pipeline(config, output, ("data.label=lat",))
    assert compile_pipeline(config, output).checked
    (tmp_path / "rows.csv").unlink()
    done = CliRunner().invoke(group, ["compile", str(config), "-o", str(output), "--set", "data.label=lat"])
    assert done.exit_code == 0
    assert "the data are not here: their columns were not checked" in done.output


def test_a_volume_without_the_data_is_told_before_a_step_runs(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    made = compile_pipeline(tmp_path / "demo.yaml", tmp_path / "p.yaml")
    with pytest.raises(ConfigError, match=r"Received: nothing at \S*v/data/rows.csv \(data.path\)") as told:
        rehearse(made.path, tmp_path / "v")
    assert "headrace kubeflow simulate CONFIG --volume" in told.value.hint
    assert not (tmp_path / "v" / ".simulated").exists()


def test_compiling_imports_no_tensorflow_and_no_tfx(tmp_path: Path) -> None:
    Project.make(tmp_path, rows=50)
    code = (
        "import sys\nfrom headrace.kubeflow.compile import compile_pipeline\n"
        f"compile_pipeline({str(tmp_path / 'demo.yaml')!r}, {str(tmp_path / 'p.yaml')!r})\n"
        "heavy = {'tensorflow', 'tfx', 'apache_beam', 'keras', 'ml_metadata'}\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
