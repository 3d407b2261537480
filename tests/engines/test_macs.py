from assay.engines.macs import conv_macs, matmul_macs, recurrent_macs, shares, transposed_conv_macs


def test_counts_by_hand() -> None:
    assert conv_macs((8, 3, 3, 3), (1, 8, 16, 16)) == 8 * 16 * 16 * 27
    assert conv_macs((8, 1, 3, 3), (2, 8, 4, 4)) == 2 * 8 * 16 * 9  # depthwise
    assert transposed_conv_macs((8, 4, 2, 2), (1, 8, 5, 5)) == 200 * 16
    assert recurrent_macs((7, 2, 10), (1, 4 * 6, 10), (1, 4 * 6, 6)) == 14 * (240 + 144)


def test_matmul_in_every_layout() -> None:
    assert matmul_macs((2, 5), (2, 3)) == 2 * 3 * 5
    assert matmul_macs((5, 2), (2, 3)) == 2 * 3 * 5  # transposed left
    assert matmul_macs((4, 7, 2, 5), (4, 7, 2, 3)) == 28 * 2 * 3 * 5
    assert matmul_macs((2, 5), (9, 2, 3), (9, 5, 3)) == 9 * 2 * 3 * 5  # broadcast over the right's batch
    assert matmul_macs((5,), (3,), (5, 3)) == 15
    assert matmul_macs((2, 5), (2,), (5,)) == 10
    assert matmul_macs((5,), (), (5,)) == 5


def test_shares_sum_to_one_and_are_empty_without_arithmetic() -> None:
    found = shares([("cpu", "fp32", 30), ("cpu", "bf16", 60), ("cpu", "fp32", 10), ("gpu", "fp32", 0)])
    assert found == {("cpu", "fp32"): 0.4, ("cpu", "bf16"): 0.6}
    assert shares([]) == shares([("cpu", "fp32", 0)]) == {}
