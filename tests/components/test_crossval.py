import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from headrace.components.crossval import run as crossval
from headrace.components.crossval.config import CrossValidationConfig
from headrace.components.crossval.folds import make_folds
from headrace.components.crossval.rows import fold_keys, read_source, write_fold
from headrace.components.evaluation.rows import ExampleFiles
from headrace.components.features.signatures import FittedTransform
from headrace.components.node import NodeContext, NodeResult
from headrace.data.config import DataConfig
from headrace.data.errors import DataRejected, HeadraceError
from tests.components.transformed import BEAM_ARGS, write_examples

pytestmark = pytest.mark.long

TYPES = {"x": "float", "city": "string", "user": "int", "day": "string"}
FEATURES = {
    "x": {"kind": "numeric"},
    "city": {"kind": "categorical", "vocabulary": {}, "embedding_dim": 2},
}
TRAIN, EVAL = 160, 40


def draw_rows(count: int, start: int) -> list[dict[str, Any]]:
    """Draw rows whose label follows `x`; each of 10 users has a city that nobody else has."""
    draw = random.Random(start)
    rows = []
    for number in range(start, start + count):
        x, user = draw.gauss(0, 1), draw.randrange(10)
        rows.append(
            {
                "x": None if number % 31 == 0 else x,
                "city": f"city of {user}",
                "user": user,
                "day": f"2024-{1 + number // 28:02d}-{1 + number % 28:02d}",
                "label": "yes" if x + draw.gauss(0, 0.3) > 0.3 else "no",
                "weight": 1.0,
            }
        )
    return rows


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Examples of which the model reads `x` and `city`; the test split must never be opened."""
    folder = tmp_path_factory.mktemp("crossval") / "examples"
    splits = {"train": draw_rows(TRAIN, 0), "eval": draw_rows(EVAL, TRAIN), "test": draw_rows(10, 900)}
    write_examples(folder, splits, TYPES)
    for file in (folder / "Split-test").iterdir():
        file.write_bytes(b"not a record")
    ingest = json.loads((folder / "ingest.json").read_text())
    (folder / "ingest.json").write_text(json.dumps({**ingest, "features": ["x", "city"]}))
    return folder


def data() -> DataConfig:
    return DataConfig.model_validate({"path": "none", "label": "label", "weight": "weight", "shards": 2})


def run_node(
    root: Path, examples: Path, section: dict[str, Any], tuned: dict[str, Any] | None = None, **config: Any
) -> NodeResult:
    (root / "best").mkdir(parents=True, exist_ok=True)
    (root / "best" / "best.json").write_text(json.dumps({"values": tuned or {}}))
    (root / "temp").mkdir(exist_ok=True)
    return crossval.run(
        NodeContext(
            "crossval",
            "run",
            {"examples": [str(examples)], "best_hyperparameters": [str(root / "best")]},
            {"cross_validation": str(root / "out")},
            {
                "data": data().model_dump(mode="json"),
                "features": FEATURES,
                "preprocessing_fn": None,
                "model": {"family": "mlp", "hidden": [4]},
                "training": {"batch_size": 16, "learning_rate": 0.05, "epochs": 9},
                "cross_validation": {"enabled": True, **section},
                "evaluation.threshold": 0.5,
                "evaluation.costs": {},
                "seed": 5,
                **config,
            },
            str(root / "temp"),
            BEAM_ARGS,
        )
    )


def result(root: Path) -> Any:
    return json.loads((root / "out" / "crossval.json").read_text())


class TestRows:
    def test_the_rows_of_a_fold_are_those_of_the_ingest(self, examples: Path, tmp_path: Path):
        config = CrossValidationConfig.model_validate({"method": "time", "order": "day", "folds": 3})
        source = read_source(str(examples), config, data())
        fold = make_folds(config, fold_keys(source, config, data()), 1)[1]
        write_fold(source, fold, tmp_path / "fold", shards=3, seed=1)
        every = [
            record
            for split in ("train", "eval")
            for batch in ExampleFiles(str(examples / f"Split-{split}"), {}).batches()
            for record in batch
        ]
        for split, rows in (("train", fold.train), ("eval", fold.eval), ("test", fold.held_out)):
            files = ExampleFiles(str(tmp_path / "fold" / f"Split-{split}"), {})
            written = [record for batch in files.batches() for record in batch]
            wanted = [every[row] for row in rows]
            # Only the training rows have another order.
            assert (sorted(written) if split == "train" else written) == (
                sorted(wanted) if split == "train" else wanted
            )
        ingest = json.loads((tmp_path / "fold" / "ingest.json").read_text())
        assert ingest["splits"] == {
            "train": len(fold.train),
            "eval": len(fold.eval),
            "test": len(fold.held_out),
        }
        missing = {column["name"]: column["missing"] for column in ingest["columns"]}
        assert missing["x"]["test"] == sum(row % 31 == 0 for row in fold.held_out)

    def test_groups_of_several_columns_are_their_pairs(self, examples: Path):
        config = CrossValidationConfig.model_validate({"method": "grouped", "group": ["user", "label"]})
        source = read_source(str(examples), config, data())
        codes = fold_keys(source, config, data())
        pairs = list(zip(*(source.columns[name].to_pylist() for name in ("user", "label")), strict=True))
        assert len(set(zip(codes.tolist(), pairs, strict=True))) == len(set(pairs)) == len(set(codes))

    def test_text_that_is_no_date_does_not_order_rows(self, examples: Path):
        config = CrossValidationConfig.model_validate({"method": "time", "order": "city"})
        source = read_source(str(examples), config, data())
        with pytest.raises(DataRejected, match=r"must be ISO 8601 dates. Received: 'city of \d'") as caught:
            fold_keys(source, config, data())
        assert "data.columns.city: float" in caught.value.hint

    def test_rows_without_a_time_are_counted(self, examples: Path):
        config = CrossValidationConfig.model_validate({"method": "time", "order": "x"})
        source = read_source(str(examples), config, data())
        with pytest.raises(DataRejected, match="Received: 7 rows without one"):
            fold_keys(source, config, data())


class TestNode:
    def test_off_reads_nothing(self, tmp_path: Path):
        found = run_node(
            tmp_path, tmp_path / "none", {"enabled": False}, data=None, training=None, model=None
        )
        assert found.finding == "off"
        assert result(tmp_path) == {"method": None, "folds": [], "metrics": {}}

    def test_each_fold_is_fitted_on_its_own_rows_alone(
        self, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """A user's city occurs in no other group, so to the fold that holds it out it is unknown."""
        monkeypatch.setenv("HEADRACE_EVENTS", str(tmp_path / "events"))
        seen: list[tuple[set[bytes], set[int]]] = []
        train = crossval.train

        def spied(transformed: str, features: Any, *rest: Any) -> Any:
            """Note the vocabulary, and the indices that held-out rows have."""
            folder = Path(transformed).parent
            transform = FittedTransform(str(folder / "graph"))
            files = ExampleFiles(str(folder / "examples" / "Split-test"), {})
            held = np.concatenate(list(files.batches()))
            (vocabulary,) = (folder / "graph").rglob("assets/*city*")
            known = {line for line in vocabulary.read_bytes().split(b"\n") if line}
            seen.append((known, set(transform.from_examples(held)["city"].numpy().ravel().tolist())))
            return train(transformed, features, *rest)

        monkeypatch.setattr(crossval, "train", spied)
        section = {"method": "grouped", "group": ["user"], "folds": 2, "epochs": 2}
        found = run_node(tmp_path, examples, section, {"training.learning_rate": 0.02})
        document = result(tmp_path)
        assert [(fold["repeat"], fold["fold"]) for fold in document["folds"]] == [(1, 1), (1, 2)]
        assert sum(fold["rows"]["held_out"] for fold in document["folds"]) == TRAIN + EVAL
        assert all(sum(fold["rows"].values()) == TRAIN + EVAL for fold in document["folds"])
        assert all(1 <= fold["best_epoch"] <= 2 for fold in document["folds"])
        (first, held_of_first), (second, held_of_second) = seen
        assert first
        assert not first & second  # no user trains both
        assert len(first | second) < 10  # the users that choose the epoch are in neither
        unknown = held_of_first | held_of_second
        assert len(unknown) == 1  # the bucket of unknown values
        events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
        told = [event for event in events if event["kind"] == "fold"]
        assert [(event["done"], event["total"]) for event in told] == [(1, 2), (2, 2)]
        assert found.finding.startswith("auc 0.")
        assert found.finding.endswith("over 2 folds")
        assert not (tmp_path / "temp" / "fold").exists()

    def test_metrics_are_those_of_scikit_learn_on_held_out_rows(
        self, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("HEADRACE_EVENTS", str(tmp_path / "events"))
        predicted: list[np.ndarray] = []
        predict = crossval._predict

        def spied(*given: Any) -> np.ndarray:
            predicted.append(predict(*given))
            return predicted[-1]

        monkeypatch.setattr(crossval, "_predict", spied)
        run_node(tmp_path, examples, {"method": "stratified", "folds": 2, "epochs": 2})
        document = result(tmp_path)
        config = CrossValidationConfig.model_validate({"method": "stratified", "folds": 2})
        source = read_source(str(examples), config, data())
        labels = np.array(source.columns["label"].to_pylist()) == "yes"
        folds = make_folds(config, fold_keys(source, config, data()), 5)
        for fold, scores, entry in zip(folds, predicted, document["folds"], strict=True):
            truth = labels[fold.held_out]
            assert entry["metrics"]["auc"] == pytest.approx(roc_auc_score(truth, scores[:, 1]), abs=1e-9)
            assert entry["metrics"]["log_loss"] == pytest.approx(log_loss(truth, scores[:, 1]), abs=1e-5)
        values = [entry["metrics"]["auc"] for entry in document["folds"]]
        spread = {
            "mean": np.mean(values),
            "std": np.std(values, ddof=1),
            "min": min(values),
            "max": max(values),
        }
        assert document["metrics"]["auc"] == pytest.approx(spread)
        assert min(values) > 0.8
        assert "example_count" not in document["metrics"]

    def test_folds_that_are_done_are_not_done_again(
        self, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("HEADRACE_EVENTS", str(tmp_path / "events"))
        judged: list[int] = []

        def judge(self: Any, fold: Any, seed: int) -> dict[str, Any]:
            if len(judged) == 2 and not (tmp_path / "again").exists():
                raise KeyboardInterrupt
            judged.append(seed)
            return {"repeat": fold.repeat, "fold": fold.fold, "metrics": {"auc": seed / 10}}

        monkeypatch.setattr(crossval._Folds, "judge", judge)
        with pytest.raises(KeyboardInterrupt):
            run_node(tmp_path, examples, {"folds": 4})
        (tmp_path / "again").touch()
        run_node(tmp_path, examples, {"folds": 4})
        assert judged == [5, 6, 7, 8]
        assert [fold["metrics"]["auc"] for fold in result(tmp_path)["folds"]] == [0.5, 0.6, 0.7, 0.8]

    def test_folds_that_fail_tell_why(self, examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("HEADRACE_EVENTS", str(tmp_path / "events"))
        calls: list[int] = []

        def judge(*given: Any) -> dict[str, Any]:
            calls.append(1)
            if len(calls) != 2:
                raise HeadraceError("training must keep a finite loss")
            return {"best_epoch": 1, "metrics": {"auc": 0.75, "f1": None}}

        monkeypatch.setattr(crossval._Folds, "_judge", judge)
        found = run_node(tmp_path, examples, {"folds": 3})
        document = result(tmp_path)
        assert [fold.get("failed") for fold in document["folds"]] == [
            "training must keep a finite loss", None, "training must keep a finite loss",
        ]  # fmt: skip
        assert document["metrics"] == {"auc": {"mean": 0.75, "std": None, "min": 0.75, "max": 0.75}}
        assert found.finding == "auc 0.7500 over 1 folds, 2 failed"
        calls.append(1)
        with pytest.raises(HeadraceError, match=r"Received: none of 2; training must keep a finite loss"):
            run_node(tmp_path / "all", examples, {"folds": 2})
