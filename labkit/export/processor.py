"""Does this processor add the products of 8-bit kernels in 32 bits? See docs/processors.md."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
FLAGS = {"avx512_vnni", "avx_vnni"}


def has_vnni() -> bool | None:
    """Whether this x86 processor has VNNI; None if that is unknown: another system than Linux, or another processor.

    Without VNNI, onnxruntime's kernels for uint8 activations and int8 weights add two products in 16 bits and clamp.

    Returns:
        True, False or None.

    Example:
        >>> lk.export.has_vnni() in (True, False, None)
        True
    """
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), None)
    return None if flags is None else not FLAGS.isdisjoint(flags)
