"""What can be asked of ONNX Runtime: providers by name, and settings that must not contradict the precision."""

from __future__ import annotations

from assay.core.engine import OpenOptions
from assay.core.errors import BadInput, NotAvailable, UnknownName
from assay.engines.base import parse_device

INSTALL = "pip install onnxruntime"
INSTALL_CUDA = "pip uninstall onnxruntime && pip install onnxruntime-gpu"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "npu": "CANNExecutionProvider"}
_NAMED = {  # provider and the kinds of device it runs on
    "cpu": ("CPUExecutionProvider", ("cpu",)),
    "cuda": ("CUDAExecutionProvider", ("cuda",)),
    "tensorrt": ("TensorrtExecutionProvider", ("cuda",)),
    "openvino": ("OpenVINOExecutionProvider", ("cpu", "gpu", "npu")),
    "cann": ("CANNExecutionProvider", ("npu",)),
}
HOW = {"npu": "pip install onnxruntime-cann"}
LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
FAST_MATH = "mlas.enable_gemm_fastmath_arm64_bfloat16"
SPINNING = "session.intra_op.allow_spinning"
GRAPHS = "enable_cuda_graph"
MEMORY = {"cpu": "cpu", "cuda": "cuda", "npu": "cann"}
_BY_PRECISION = ("use_tf32", FAST_MATH)
_SESSION_OPTIONS = (
    "mlas.disable_kleidiai",
    "mlas.use_lut_gemm",
    "optimization.constant_folding_max_output_size_in_bytes",
    "optimization.disable_specified_optimizers",
    "optimization.enable_cast_chain_elimination",
    "optimization.enable_gelu_approximation",
    "session.allow_released_opsets_only",
    "session.disable_aot_function_inlining",
    "session.disable_cpu_ep_fallback",
    "session.disable_double_qdq_remover",
    "session.disable_prepacking",
    "session.disable_qdq_constant_folding",
    "session.disable_quant_qdq",
    "session.dynamic_block_base",
    "session.enable_dq_matmulnbits_fusion",
    "session.enable_quant_qdq_cleanup",
    "session.force_spinning_stop",
    "session.graph_optimizations_loop_level",
    "session.inter_op.allow_spinning",
    "session.inter_op.spin_backoff_max",
    "session.inter_op.spin_duration_us",
    "session.intra_op.spin_backoff_max",
    "session.intra_op.spin_duration_us",
    "session.intra_op_thread_affinities",
    "session.prepack.enable_parallel",
    "session.qdq_matmulnbits_accuracy_level",
    "session.qdq_matmulnbits_block_size",
    "session.qdqisint8allowed",
    "session.set_denormal_as_zero",
    "session.strict_shape_type_inference",
    "session.use_device_allocator_for_initializers",
    "session.use_env_allocators",
    "session.x64quantprecision",
    SPINNING,
)
_PROVIDER_OPTIONS = (
    # CUDA; the first two, and some of the memory's, also of TensorRT or CANN
    "device_id",
    "do_copy_in_default_stream",
    "arena_extend_strategy",
    "cudnn_conv1d_pad_to_nc1d",
    "cudnn_conv_algo_search",
    "cudnn_conv_use_max_workspace",
    "enable_skip_layer_norm_strict_mode",
    "fuse_conv_bias",
    "gpu_mem_limit",
    "prefer_nhwc",
    "sdpa_kernel",
    "tunable_op_enable",
    "tunable_op_max_tuning_duration_ms",
    "tunable_op_tuning_enable",
    "use_ep_level_unified_stream",
    GRAPHS,
    # TensorRT: none of its caches, which it writes into the current folder where no other is named
    "trt_auxiliary_streams",
    "trt_bf16_enable",
    "trt_build_heuristics_enable",
    "trt_builder_optimization_level",
    "trt_context_memory_sharing_enable",
    "trt_cuda_graph_enable",
    "trt_fp16_enable",
    "trt_layer_norm_fp32_fallback",
    "trt_max_partition_iterations",
    "trt_max_workspace_size",
    "trt_min_subgraph_size",
    "trt_op_types_to_exclude",
    "trt_profile_max_shapes",
    "trt_profile_min_shapes",
    "trt_profile_opt_shapes",
    "trt_sparsity_enable",
    # OpenVINO
    "device_type",
    "disable_dynamic_shapes",
    "enable_opencl_throttling",
    "enable_qdq_optimizer",
    "model_priority",
    "num_of_threads",
    "num_streams",
    "precision",
    # CANN
    "enable_cann_graph",
    "npu_mem_limit",
    "op_select_impl_mode",
    "precision_mode",
)
HARMLESS = frozenset({"provider", "graph_optimization_level", "io_binding", *_SESSION_OPTIONS, *_PROVIDER_OPTIONS})
"""Options whose value neither names a file or a library, nor is an address, nor has the library write anything.

The sources are onnxruntime_session_options_config_keys.h and the providers' pages in ONNX Runtime's documentation.
"""


def binds(options: OpenOptions) -> bool:
    """Whether inputs and outputs are bound to the device: as asked, else on cuda, where copies cost most."""
    return asked(options, "io_binding", "1" if parse_device(options.device).kind == "cuda" else "0")


def asked(options: OpenOptions, name: str, default: str = "0") -> bool:
    return dict(options.provider_options).get(name, default) == "1"


def provider_of(options: OpenOptions) -> str:
    """The execution provider: the option ``provider`` names it, else it follows from the device.

    Raises BadInput for a name that is not one or not for this device, NotAvailable where this build has it not.
    """
    import onnxruntime

    kind = parse_device(options.device).kind
    name = dict(options.provider_options).get("provider")
    if name is None:
        return PROVIDERS[kind]
    if name not in _NAMED:
        raise UnknownName("provider", name, _NAMED)
    provider, kinds = _NAMED[name]
    if kind not in kinds:
        raise BadInput(f"the provider {name} runs on {', '.join(kinds)}, not on {options.device}")
    if provider not in onnxruntime.get_available_providers():
        found = ", ".join(onnxruntime.get_available_providers())
        raise NotAvailable(f"this onnxruntime has no {provider}, only {found}", remedy=_INSTALLS.get(name))
    return provider


_INSTALLS = {
    "cuda": INSTALL_CUDA,
    "tensorrt": INSTALL_CUDA,
    "openvino": "pip uninstall onnxruntime && pip install onnxruntime-openvino",
    "cann": HOW["npu"],
}


def check_provider_options(options: OpenOptions) -> None:
    """The library ignores what it does not know; here that is an error."""
    cpu = provider_of(options) == "CPUExecutionProvider"
    for key, value in options.provider_options:
        if key == "provider":
            continue
        if key in _BY_PRECISION:
            raise BadInput(f"{key} follows from the precision", remedy=f"drop it; {options.precision} sets it")
        if key == "graph_optimization_level":
            if value not in LEVELS:
                raise BadInput(f"{key} is {value!r}", remedy=f"one of {', '.join(LEVELS)}")
        elif key == "io_binding":
            if value not in ("0", "1"):
                raise BadInput(f"io_binding is {value!r}", remedy="io_binding=1 or io_binding=0")
            if value == "0" and asked(options, GRAPHS):
                raise BadInput("a CUDA graph needs its inputs and outputs bound", remedy="leave io_binding=0 out")
        elif "." not in key and cpu:
            raise BadInput(f"onnxruntime's CPU provider has no option {key!r}")
