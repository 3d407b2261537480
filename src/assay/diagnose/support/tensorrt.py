"""TensorRT: what its ONNX parser's support matrix says.  Documented, not run.

Source: ``docs/operators.md`` of onnx/onnx-tensorrt at release 10.1 (June 2024), opsets 9 to 20.  The matrix also
has conditions on attributes (2-D or 3-D pooling only, no antialiasing in Resize, …), which are not looked at here.
"""

from __future__ import annotations

from assay.diagnose.support.table import DOCUMENTED, Knowledge
from assay.graph.operator_uses import Use

OLDEST, NEWEST = 9, 20
_NAMES = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast CastLike Ceil Celu
    Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace DequantizeLinear Div
    Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm
    GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization GRU HardSigmoid
    HardSwish Hardmax Identity If ImageScaler InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax Loop LRN LSTM LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization
    Min Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or Pad ParametricSoftplus Pow PRelu QuantizeLinear
    RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
    ReverseSequence RNN RoiAlign Round ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign
    Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile
    TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
TAKEN = frozenset(_NAMES.split())


def knowledge() -> Knowledge:
    return Knowledge(DOCUMENTED, "onnx-tensorrt's support matrix for 10.1, not run", _refusal, (OLDEST, NEWEST))


def _refusal(use: Use, opset: int) -> str | None:
    if use.domain:
        return "it is not an operator of ONNX and needs a plugin"
    return None if use.op_type in TAKEN else "its support matrix does not have it"
