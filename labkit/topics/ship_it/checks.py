"""Checks of notebook 13."""

from collections.abc import Callable
from typing import Any

from labkit._verdict import Verdict, compare, in_words

__all__ = ["check_clamped_sum", "check_onnx_bytes", "check_requantized"]


@in_words
def check_onnx_bytes(answer: Callable[[int, float, int], float]) -> Verdict:
    """`answer(weights, sparsity, bits)`: bytes that the weights of a layer take in the ONNX file, a whole number.

    Integers of 1 to 4 bits are stored in 4 bits, others of up to 8 bits in 8; a float, 32 bits, takes four bytes.
    """

    def specification(weights: int, sparsity: float, bits: int) -> int:
        width = 32 if bits == 32 else 8 if bits > 4 else 4
        return -(-weights * width // 8)

    cases = [(1_000, 0.0, 32), (1_000, 0.9, 32), (1_000, 0.9, 8), (1_001, 0.9, 4), (1_000, 0.5, 3), (1_000, 0.99, 5)]
    solved = "a zero takes as much space as any other weight: nothing in the file codes what is frequent in fewer bits"
    return compare(answer, specification, cases, solved)


@in_words
def check_clamped_sum(answer: Callable[[int, int, int, int], int]) -> Verdict:
    """`answer(a, w, b, v)`: a · w + b · v as a processor without VNNI adds it, in int16 that saturates.

    a and b are uint8 activations, w and v int8 weights.
    """

    def specification(a: int, w: int, b: int, v: int) -> int:
        return max(-(2**15), min(2**15 - 1, a * w + b * v))

    cases: list[tuple[Any, ...]] = [
        (10, 3, 20, -4), (255, 127, 255, 127), (255, 127, 1, 100), (255, -128, 255, -128), (255, 63, 255, 63),
        (200, -100, 255, -127),
    ]  # fmt: skip
    return compare(answer, specification, cases, "with weights of 7 bits, at most 64, two products always fit")


@in_words
def check_requantized(answer: Callable[[int, int, int], int]) -> Verdict:
    """`answer(a, multiplier, shift)`: round(a · multiplier · 2^-shift) in whole numbers, halves upwards."""

    def specification(a: int, multiplier: int, shift: int) -> int:
        return (a * multiplier + (1 << (shift - 1))) >> shift

    cases = [(7, 1, 1), (-7, 1, 1), (1_000, 1_518_500_250, 38), (-1_000, 1_518_500_250, 38), (3, 1_073_741_824, 31)]
    return compare(answer, specification, cases, "one multiplication, one addition, one shift: no float on the device")
