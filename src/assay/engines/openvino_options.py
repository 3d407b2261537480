"""The compile properties of OpenVINO that a stranger's bundle may set."""

from __future__ import annotations

HARMLESS = frozenset(
    {
        "ACTIVATIONS_SCALE_FACTOR",
        "AFFINITY",
        "ALLOW_AUTO_BATCHING",
        "AUTO_BATCH_TIMEOUT",
        "COMPILATION_NUM_THREADS",
        "CPU_DENORMALS_OPTIMIZATION",
        "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE",
        "ENABLE_CPU_PINNING",
        "ENABLE_CPU_RESERVATION",
        "ENABLE_HYPER_THREADING",
        "ENABLE_MMAP",
        "GPU_DISABLE_WINOGRAD_CONVOLUTION",
        "GPU_ENABLE_LOOP_UNROLLING",
        "GPU_ENABLE_SDPA_OPTIMIZATION",
        "GPU_HOST_TASK_PRIORITY",
        "GPU_QUEUE_PRIORITY",
        "GPU_QUEUE_THROTTLE",
        "INFERENCE_NUM_THREADS",
        "KEY_CACHE_GROUP_SIZE",
        "KEY_CACHE_PRECISION",
        "KV_CACHE_PRECISION",
        "MODEL_DISTRIBUTION_POLICY",
        "MODEL_PRIORITY",
        "NPU_TURBO",
        "NUM_STREAMS",
        "PERFORMANCE_HINT",
        "PERFORMANCE_HINT_NUM_REQUESTS",
        "PERF_COUNT",
        "SCHEDULING_CORE_TYPE",
        "TBB_PARTITIONER",
        "VALUE_CACHE_GROUP_SIZE",
        "VALUE_CACHE_PRECISION",
    }
)
"""Properties whose value is a number, a switch or one word of a list: none names a file, another device or a
library, and none has the library write anything (``CACHE_DIR``, ``CONFIG_FILE`` and ``WEIGHTS_PATH`` do).  What the
precision decides (``INFERENCE_PRECISION_HINT``) is refused when opening.  The source is OpenVINO's list of properties.
"""
