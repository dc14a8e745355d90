"""The program of the child processes that benchmark_against.py starts.

A child process writes the network, exports the network, or loads one engine. A child process that loads an engine
imports no other engine, so the peak memory of the process is the peak memory of the engine.
"""
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
from benchmark_int8 import quantize, quantized_file


def prepare(folder, name, seed, batch, size):
    """Write the network as a Hugging Face folder, and write the pictures and their float64 logits.

    `size`: "", or the height and width of the pictures. The positions are resized to this size.
    """
    from parity_with_torch import network, picture

    from nphybrid import ViTHybridImageProcessor
    model = network(name, int(seed), engine="reference")
    if size:
        model.save_pretrained(folder / "model")
        model = type(model).from_pretrained(folder / "model", image_size=int(size), engine="reference")
    height, width = model.network_config.image
    if model.processor is None:
        model.processor = ViTHybridImageProcessor(size={"height": height, "width": width}, do_center_crop=False,
                                                  image_mean=[0.5] * 3, image_std=[0.5] * 3)
    model.save_pretrained(folder / "model")
    x = np.concatenate([np.roll(picture((height, width)), 16 * i, axis=-1) for i in range(int(batch))])
    exact = type(model)(model.config, state_dict=model.state_dict(), engine="reference", dtype="float64")
    np.save(folder / "x.npy", x)
    np.save(folder / "truth.npy", exact(x).logits)


def export(folder):
    """Write the network as an ONNX file, with plain convolutions and standardized kernels."""
    import onnx  # noqa: F401   Without this import, a missing onnx causes a less clear error.
    import torch
    import transformers
    from transformers.models.bit.modeling_bit import WeightStandardizedConv2d
    network = getattr(transformers, architecture(folder)).from_pretrained(folder / "model", return_dict=False)
    for name, conv in list(network.named_modules()):
        if isinstance(conv, WeightStandardizedConv2d):
            weight = conv.weight.detach().double()
            variance, mean = torch.var_mean(weight, (1, 2, 3), correction=0, keepdim=True)
            plain = torch.nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
                                    conv.dilation, conv.groups, bias=conv.bias is not None)
            plain.load_state_dict(conv.state_dict() | {"weight": (weight - mean) / torch.sqrt(variance + conv.eps)})
            network.set_submodule(name, torch.nn.Sequential(conv.pad or torch.nn.Identity(), plain))
    x = torch.from_numpy(np.load(folder / "x.npy"))
    torch.onnx.export(network.eval(), (x,), folder / "model.onnx", dynamo=False, opset_version=20,
                      input_names=["pixel_values"], output_names=["logits"])


def ours(folder, x, dtype, precision, threads):
    """Load nphybrid.  -> version, number of threads, dtype, and a function that returns logits"""
    import nphybrid
    model = getattr(nphybrid, architecture(folder)).from_pretrained(
        folder / "model", dtype=dtype, num_threads=threads, **({"precision": precision} if precision else {}))
    return nphybrid.__version__, model.num_threads, model.dtype, lambda: model(x).logits


def pytorch(folder, x, dtype, precision, threads):
    """Load the model of transformers with its default attention.  -> the same four values as `ours`"""
    import torch
    import transformers
    torch.set_num_threads(threads)
    model = getattr(transformers, architecture(folder)).from_pretrained(folder / "model").eval()
    tensor = torch.from_numpy(x)
    if dtype == "int8":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, torch.qint8)
    else:
        model, tensor = model.to(getattr(torch, dtype)), tensor.to(getattr(torch, dtype))

    def call():
        with torch.inference_mode():
            return model(tensor).logits.float().numpy()
    used = dtype if dtype == "int8" else str(model.dtype).removeprefix("torch.")
    return torch.__version__.split("+")[0], torch.get_num_threads(), used, call


def onnx_runtime(folder, x, dtype, precision, threads):
    """Load the CPU provider of ONNX Runtime with all graph optimizations.  -> the same four values as `ours`"""
    import onnxruntime
    if dtype == "bfloat16":
        raise ValueError("dtype bfloat16: ONNX Runtime has no bfloat16 kernels for a CPU, expected float32 or int8")
    file = quantized_file(folder, "onnxruntime", precision) if dtype == "int8" else folder / "model.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return (onnxruntime.__version__, session.get_session_options().intra_op_num_threads, dtype,
            lambda: session.run(None, {"pixel_values": x})[0])


def open_vino(folder, x, dtype, precision, threads):
    """Load the CPU plugin of OpenVINO with the latency hint.  -> the same four values as `ours`

    In int8, `precision` is the dtype of the operations that are not quantized.
    """
    import openvino
    kinds = {"float32": "f32", "bfloat16": "bf16"}
    int8 = dtype == "int8"
    file = quantized_file(folder, "openvino", precision) if int8 else folder / "model.onnx"
    model = openvino.Core().compile_model(file, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": kinds[precision or "float32" if int8 else dtype]})
    used = model.get_property("INFERENCE_PRECISION_HINT").to_string()
    return (openvino.__version__.split("-")[0], model.get_property("INFERENCE_NUM_THREADS"),
            dtype if int8 else {short: long for long, short in kinds.items()}.get(used, used), lambda: model([x])[0])


def architecture(folder):
    """Returns the class name of the network in a folder."""
    return json.loads((folder / "model" / "config.json").read_text())["architectures"][0]


JOBS = {"prepare": prepare, "export": export, "quantize": quantize}
ENGINES = {"nphybrid": ours, "torch": pytorch, "onnxruntime": onnx_runtime, "openvino": open_vino}


def child(answer, job, folder, *arguments):
    """Run a job, or load an engine and measure its time.

    The first answer of an engine contains its version, dtype, times, memory and logits. Then every line of stdin starts
    one timed call.
    """
    folder, start = Path(folder), time.perf_counter()
    if job in JOBS:
        return answer(JOBS[job](folder, *arguments) or {})
    x, (dtype, precision, threads) = np.load(folder / "x.npy"), arguments
    version, threads, dtype, call = ENGINES[job](folder, x, dtype, precision, int(threads))
    loaded = time.perf_counter()
    logits, first = call(), time.perf_counter() - loaded
    answer(dict(version=version, threads=threads, dtype=dtype, load=loaded - start, first=first,
                peak=peak(resource.getrusage(resource.RUSAGE_SELF)), logits=logits.astype(float).tolist()))
    for _ in sys.stdin:
        start = time.perf_counter()
        call()
        answer({"seconds": time.perf_counter() - start})


def main(*arguments):
    """Write every answer to stdout as one line, and redirect the output of the libraries to stderr."""
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(fields):
        print(json.dumps(fields), file=stdout, flush=True)
    try:
        child(answer, *arguments)
    except ModuleNotFoundError as error:
        answer({"problem": f'{error.name} is not installed: pip install ".[bench]"'})
    except Exception as error:
        answer({"problem": f"{type(error).__name__}: {error}"})


def peak(usage):
    """Returns the peak memory of a process in bytes.

    `ru_maxrss` counts bytes on macOS, and kilobytes on other systems. On Linux, a new process starts with the peak
    memory of its parent process, so the parent process should be small.
    """
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
