"""One way to open an ONNX model, for the proof at import and for the serving worker alike."""

import onnxruntime as ort

# ONNX Runtime's scale goes from 0 (verbose) to 4 (fatal): what goes wrong is raised anyway, and the
# lines that it writes to standard error besides say nothing more.
_FATAL = 4


def open_session(model: bytes) -> ort.InferenceSession:
    """Open a model on one thread.

    A graph for four features has nothing to share out: a second thread costs its hand-over and
    takes a core from the other workers.

    Args:
        model: Serialized ONNX without external data.

    Raises:
        Exception: ONNX Runtime has one type for each kind of bad model, without a common base.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
