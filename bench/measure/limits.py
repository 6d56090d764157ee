"""Peak performance of the machine, with as many threads as the models: bytes read from memory, products of floats and of
bytes."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper

from .systems import THREADS

#: Rows, columns and depth of the products.
SIZE = 2048
RUNS = 7


def read_rate(size: int) -> float:
    """Bytes per second when repeatedly reading a buffer of this size, including cache hits, as for a model of this
    size."""
    parts = [numpy.ones(max(size // THREADS // 4, 1), numpy.float32) for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        best = least(lambda: list(pool.map(lambda part: part.dot(part), parts)))
    return sum(part.nbytes for part in parts) / best


def product_rate(precision: str) -> float:
    """Operations per second (multiplications and additions) of ONNX Runtime's product of two large matrices."""
    kind, operator = {"fp32": (TensorProto.FLOAT, "MatMul"), "int8": (TensorProto.UINT8, "MatMulInteger")}[precision]
    result = {"fp32": TensorProto.FLOAT, "int8": TensorProto.INT32}[precision]
    draw = numpy.random.default_rng(0)
    left, right = (draw.integers(0, 100, (SIZE, SIZE)) for _ in range(2))
    left = left.astype({"fp32": numpy.float32, "int8": numpy.uint8}[precision])
    # A constant, like a model's weights, so that the runtime packs it for its kernels.
    weight = onnx.numpy_helper.from_array(right.astype({"fp32": numpy.float32, "int8": numpy.int8}[precision]), "weight")
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "weight"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", kind, [SIZE, SIZE])],
        [helper.make_tensor_value_info("y", result, [SIZE, SIZE])],
        [weight],
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return 2 * SIZE**3 / least(lambda: session.run(None, {"x": left}))


def least(work) -> float:
    """Seconds of the fastest of several runs."""
    work()
    seconds = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)
