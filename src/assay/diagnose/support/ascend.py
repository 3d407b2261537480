"""Ascend: what CANN's ONNX parser registers.  Documented, not run.

Source: the ``ai.onnx::OPSET::NAME`` registrations of CANN's published operator library (ops/built-in/framework/
onnx_plugin, June 2022), opsets 8 to 15.  A newer CANN takes more; ``atc`` itself has the last word.
"""

from __future__ import annotations

from assay.diagnose.support.table import DOCUMENTED, Knowledge
from assay.graph.operator_uses import Use

OLDEST, NEWEST = 8, 15
_NAMES = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip Concat
    Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace Det Div Dropout Einsum Elu Equal Erf Exp
    Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
    Greater GreaterOrEqual HardSigmoid Hardmax Identity If InstanceNormalization LRN LSTM LeakyRelu Less LessOrEqual Log
    LogSoftmax LpNormalization LpPool MatMul Max MaxPool MaxRoiPool Mean Min Mul Multinomial Neg Not Or PRelu Pad Pow
    RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape RoiAlign Round
    ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub
    Sum Tan Tanh Tile TopK Transpose Unsqueeze Upsample Where Xor
"""
TAKEN = frozenset(_NAMES.split())
FIRST = {
    "BitShift": 11, "Compress": 9, "HardSwish": 14, "IsInf": 10, "IsNaN": 9, "MaxUnpool": 9,
    "MeanVarianceNormalization": 9, "Mod": 10, "NonMaxSuppression": 10, "NonZero": 9, "OneHot": 9, "Resize": 10,
    "ReverseSequence": 10, "ScatterElements": 11, "Shrink": 9, "SoftmaxCrossEntropyLoss": 12, "TfIdfVectorizer": 9,
    "ThresholdedRelu": 10, "Trilu": 14,
}  # fmt: skip
"""Registered from this opset on."""


def knowledge() -> Knowledge:
    return Knowledge(DOCUMENTED, "CANN's ONNX parser registrations of June 2022, not run", _refusal, (OLDEST, NEWEST))


def _refusal(use: Use, opset: int) -> str | None:
    if use.domain:
        return "it is not an operator of ONNX and needs a plugin"
    if use.op_type in TAKEN or FIRST.get(use.op_type, NEWEST + 1) <= opset:
        return None
    return "its parser does not register it"
