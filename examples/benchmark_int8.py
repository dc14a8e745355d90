"""Quantizes the ONNX file of benchmark_engines.py to int8, as the documentation of each engine recommends.

    onnxruntime-int8:dynamic        weights int8; activations are quantized in each call, in matrix products only
    onnxruntime-int8:static         weights and activations int8, with scales from calibration pictures
    openvino-int8                   NNCF's quantization of transformers, with the same pictures
    openvino-int8:bfloat16          the same file, and bfloat16 in the operations that are not quantized

The calibration pictures are the benchmark's pictures, moved sideways or down, some of them with noise.
"""
import numpy as np

CALIBRATION = 8                           # number of calibration batches


def quantize(folder, engine, kind):
    """Write the quantized file of an engine, unless it is there."""
    file = quantized_file(folder, engine, kind)
    if not file.exists():
        quantize_with = {"onnxruntime": onnxruntime_tools, "openvino": nncf_tools}[engine]
        quantize_with(folder, file, kind)


def quantized_file(folder, engine, kind):
    """The path of the quantized file.  Raises ValueError for an unknown kind."""
    kinds = {"onnxruntime": ("dynamic", "static"), "openvino": ("", "float32", "bfloat16")}[engine]
    if kind not in kinds:
        raise ValueError(f"{engine}-int8: expected one of the kinds {', '.join(map(repr, kinds))}, found {kind!r}")
    return folder / (f"onnxruntime-{kind}.onnx" if engine == "onnxruntime" else "openvino.xml")


def pictures(folder):
    """The calibration batches."""
    x = np.load(folder / "x.npy")
    rng = np.random.default_rng(1)
    moved = [np.roll(x, 37 * i, axis=-1) for i in range(CALIBRATION // 2)]
    noisy = [0.7 * np.roll(x, 50 * i, axis=-2) + 0.3 * rng.standard_normal(x.shape) for i in range(CALIBRATION // 2)]
    return [*moved, *(batch.clip(-1, 1).astype(np.float32) for batch in noisy)]


def onnxruntime_tools(folder, file, kind):
    """Quantize with ONNX Runtime's own tools."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    clean = folder / "clean.onnx"
    quant_pre_process(folder / "model.onnx", clean, skip_symbolic_shape=True)
    if kind == "dynamic":
        quantize_dynamic(clean, file, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True,
                         weight_type=QuantType.QInt8)
    else:
        quantize_static(clean, file, Pictures(folder), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


class Pictures:
    """The calibration batches, one for each call of `get_next`, which ONNX Runtime calls."""

    def __init__(self, folder):
        self.left = iter(pictures(folder))

    def get_next(self):
        """The next batch, or None."""
        batch = next(self.left, None)
        return None if batch is None else {"pixel_values": batch}


def nncf_tools(folder, file, kind):
    """Quantize with NNCF.  Both kinds have one file."""
    import nncf
    import openvino
    batches = pictures(folder)
    quantized = nncf.quantize(openvino.Core().read_model(folder / "model.onnx"),
                              nncf.Dataset(batches, lambda batch: batch), subset_size=len(batches),
                              model_type=nncf.ModelType.TRANSFORMER, preset=nncf.QuantizationPreset.PERFORMANCE)
    openvino.save_model(quantized, file, compress_to_fp16=False)
