"""Storage: a model as one small file, and an account of every byte in it.

file = encode(model)          again = decode(file, into=model)        in memory
save(model, "net.lk")         again = load("net.lk", into=model)      on disk, atomically
ledger(model)                 one row per tensor and component; the rows sum to len(file)
size_table(model)             the file compared with theory, torch.save, gzip, raw float32
"""

from labkit.store.coding import CODERS, QUICK
from labkit.store.file import check_equal, encode, load, save
from labkit.store.ledger import COMPONENTS, compression_ratio, encode_with_ledger, ledger, size_table
from labkit.store.reading import decode

__all__ = [
    "CODERS", "COMPONENTS", "QUICK", "check_equal", "size_table", "compression_ratio", "decode", "encode",
    "encode_with_ledger", "ledger", "load", "save",
]  # fmt: skip
