"""The module file of the stock DAG: what a TFX user writes for the features and model of a headrace config.

Transform and Trainer each pack it into a wheel and install it, so it imports nothing of headrace. What it
needs of the config comes through `custom_config`, as `stock.py` builds it.
"""

from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.public import tfxio

_PARTS = {"month": 12, "day": 31, "day_of_week": 7, "day_of_year": 366, "hour": 24, "minute": 60}


def _dense(value: Any, default: Any) -> Any:
    if isinstance(value, tf.SparseTensor):
        value = tf.sparse.to_dense(
            tf.SparseTensor(value.indices, value.values, [value.dense_shape[0], 1]), default
        )
    return tf.squeeze(value, axis=1)


def _text(value: Any) -> Any:
    if value.dtype == tf.string:
        return _dense(value, "")
    default = (
        tf.constant(0, value.dtype) if value.dtype.is_integer else tf.constant(float("nan"), value.dtype)
    )
    return tf.strings.as_string(_dense(value, default))


def _number(value: Any, feature: dict[str, Any]) -> Any:
    values = value.values if isinstance(value, tf.SparseTensor) else value
    known = tf.cast(values, tf.float32)
    impute = feature["impute"] if isinstance(feature["impute"], float | int) else tft.mean(known)
    if isinstance(value, tf.SparseTensor):
        value = tf.SparseTensor(value.indices, known, value.dense_shape)
    else:
        value = known
    x = _dense(value, float("nan"))
    x = tf.where(tf.math.is_nan(x), tf.cast(impute, tf.float32), x)
    if feature["log"]:
        x = tf.math.log1p(tf.maximum(x, 0.0))
    if feature["clip"]:
        x = tf.clip_by_value(x, *feature["clip"])
    return x


def _scaled(name: str, value: Any, feature: dict[str, Any]) -> dict[str, Any]:
    x = _number(value, feature)
    buckets = feature["buckets"]
    if buckets and buckets["quantiles"]:
        return {name: tft.bucketize(x, buckets["quantiles"])[:, None]}
    if buckets:
        return {name: tft.apply_buckets(x, tf.constant([buckets["bounds"]]))[:, None]}
    if feature["scale"] == "zscore":
        x = tft.scale_to_z_score(x)
    elif feature["scale"] == "minmax":
        x = tft.scale_to_0_1(x)
    out = {name: x[:, None]}
    if feature["missing_indicator"]:
        out[f"{name}_missing"] = tf.cast(tf.math.is_nan(_dense(value, float("nan"))), tf.float32)[:, None]
    return out


def _category(name: str, text: Any, feature: dict[str, Any]) -> Any:
    if feature["hash_buckets"]:
        return tft.hash_strings(text, feature["hash_buckets"])[:, None]
    vocabulary = feature["vocabulary"] or {"top_k": None, "min_count": None, "oov_buckets": 1}
    return tft.compute_and_apply_vocabulary(
        text[:, None], top_k=vocabulary["top_k"], frequency_threshold=vocabulary["min_count"],
        num_oov_buckets=vocabulary["oov_buckets"], vocab_filename=name,
    )  # fmt: skip


def _date_part(text: Any, part: str) -> Any:
    def digits(start: int, count: int) -> Any:
        return tf.strings.to_number(tf.strings.substr(text, start, count), tf.int32)

    year, month, day = digits(0, 4), digits(5, 2), digits(8, 2)
    if part in ("hour", "minute"):
        return digits({"hour": 11, "minute": 14}[part], 2)
    if part == "month":
        return month - 1
    if part == "day":
        return day - 1
    leap = tf.cast((year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0)), tf.int32)
    before = tf.gather([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334], month - 1)
    of_year = before + day - 1 + tf.where(month > 2, leap, 0)
    if part == "day_of_year":
        return of_year
    last = year - 1
    return (last * 365 + last // 4 - last // 100 + last // 400 + of_year) % 7


def _dates(name: str, value: Any, feature: dict[str, Any]) -> dict[str, Any]:
    out = {}
    for part in feature["parts"]:
        place = _date_part(_dense(value, ""), part)
        if feature["cyclical"]:
            angle = tf.cast(place, tf.float32) * (6.283185307 / _PARTS[part])
            out[f"{name}_{part}"] = tf.stack([tf.sin(angle), tf.cos(angle)], 1)
        else:
            out[f"{name}_{part}"] = tf.cast(place, tf.int64)[:, None]
    return out


def _cross_part(inputs: dict[str, Any], part: Any) -> Any:
    if isinstance(part, str):
        return _text(inputs[part])
    number = _dense(inputs[part["column"]], tf.constant(0, inputs[part["column"]].dtype))
    cut = tft.apply_buckets(tf.cast(number, tf.float32), tf.constant([part["bounds"]]))
    return tf.strings.as_string(cut)


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, Any]:
    """Apply the feature spec with tf.Transform's own functions."""
    out: dict[str, Any] = {}
    for name, feature in custom_config["features"].items():
        kind = feature["kind"]
        if kind == "cross":
            parts = [_cross_part(inputs, part) for part in feature["of"]]
            out[name] = _category(name, tf.strings.join(parts, "_"), feature)
            continue
        value = inputs[feature["column"] or name]
        if kind == "numeric":
            out |= _scaled(name, value, feature)
        elif kind == "categorical":
            out[name] = _category(name, _text(value), feature)
        else:
            out |= _dates(name, value, feature)
    positive = custom_config["positive"]
    out["label"] = tf.cast(tf.equal(_text(inputs[custom_config["label"]]), positive), tf.int64)[:, None]
    return out


def _cardinality(name: str, feature: dict[str, Any], transform: Any) -> int:
    if feature["kind"] == "numeric":
        buckets = feature["buckets"]
        return int(buckets["quantiles"] or len(buckets["bounds"]) + 1)
    if feature["hash_buckets"]:
        return int(feature["hash_buckets"])
    oov = (feature["vocabulary"] or {"oov_buckets": 1})["oov_buckets"]
    return int(transform.vocabulary_size_by_name(name) + oov)


def _encoded(name: str, column: Any, config: dict[str, Any], transform: Any) -> Any:
    """Turn an input into floats `[rows, n]`."""
    feature = config["features"].get(name)
    if feature is None or column.dtype == "float32":  # date parts and indicators
        if column.dtype == "float32":
            return column
        return keras.ops.squeeze(keras.ops.one_hot(column, 366), 1)
    count = _cardinality(name, feature, transform)
    if feature.get("encode", "embedding") != "embedding":
        return keras.ops.squeeze(keras.ops.one_hot(column, count), 1)
    width = feature["embedding_dim"] or min(32, max(4, int(-(-2 * count**0.25 // 1))))
    x = keras.ops.squeeze(keras.layers.Embedding(count, width)(column), 1)
    dropout = config["model"]["embedding_dropout"]
    return keras.layers.Dropout(dropout)(x) if dropout else x


def _build(config: dict[str, Any], transform: Any) -> Any:
    specs = {n: s for n, s in transform.transformed_feature_spec().items() if n != "label"}
    inputs = {n: keras.Input((s.shape[0],), dtype=s.dtype.name, name=n) for n, s in specs.items()}
    x = keras.ops.concatenate([_encoded(n, column, config, transform) for n, column in inputs.items()], 1)
    for units in config["model"]["hidden"]:
        if config["model"]["batch_norm"]:
            x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Dense(units, activation=config["model"]["activation"])(x)
        x = keras.layers.Dropout(config["model"]["dropout"])(x)
    logits = keras.layers.Dense(1)(x)
    if config["model"]["linear_terms"]:
        terms = [
            keras.ops.squeeze(keras.layers.Embedding(_cardinality(n, f, transform), 1)(inputs[n]), 1)
            for n, f in config["features"].items()
            if n in inputs and inputs[n].dtype == "int64"
        ]
        logits = keras.layers.Add()([logits, *terms]) if terms else logits
    model = keras.Model(inputs, keras.layers.Activation("sigmoid")(logits))
    optimizers = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}
    optimizer = optimizers[config["training"]["optimizer"]](config["training"]["learning_rate"])
    model.compile(optimizer, "binary_crossentropy", metrics=[keras.metrics.AUC(name="auc")])
    return model


def _signature(model: Any, transform: Any, label: str) -> Any:
    model.tft_layer = transform.transform_features_layer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def serve(examples: Any) -> dict[str, Any]:
        spec = transform.raw_feature_spec()
        spec.pop(label)
        transformed = model.tft_layer(tf.io.parse_example(examples, spec))
        transformed.pop("label", None)
        return {"outputs": model(transformed)}

    return serve


def run_fn(fn_args: Any) -> None:
    """Train as the Keras templates of TFX do."""
    config = fn_args.custom_config
    transform = tft.TFTransformOutput(fn_args.transform_output)
    batch_size = config["training"]["batch_size"]

    def dataset(files: Any) -> Any:
        options = tfxio.TensorFlowDatasetOptions(batch_size=batch_size, label_key="label", num_epochs=1)
        return fn_args.data_accessor.tf_dataset_factory(
            files, options, transform.transformed_metadata.schema
        ).prefetch(tf.data.AUTOTUNE)

    keras.utils.set_random_seed(config["seed"])
    model = _build(config, transform)
    model.fit(
        dataset(fn_args.train_files), epochs=config["training"]["epochs"],
        validation_data=dataset(fn_args.eval_files), verbose=2,
    )  # fmt: skip
    serve = _signature(model, transform, config["label"])
    tf.saved_model.save(model, fn_args.serving_model_dir, signatures={"serving_default": serve})
