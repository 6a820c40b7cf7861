"""Numbers and texts in a header: LEB128 varints (7 bits per byte, low bits first) and a reader that checks bounds."""

Bytes = bytes | memoryview  # a view of a file or of a tensor saves a copy


def varint(n: int) -> bytes:
    """A whole number n >= 0: 1 byte below 128, 2 below 16,384, …"""
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def signed(n: int) -> bytes:
    """A whole number of either sign: 0, -1, 1, -2, … become the varints 0, 1, 2, 3, …"""
    return varint(2 * n if n >= 0 else -2 * n - 1)


def text(value: str) -> bytes:
    """Length, then UTF-8."""
    raw = value.encode()
    return varint(len(raw)) + raw


class Reader:
    """Reads bytes in order; ValueError, naming `what` is read, if they end too early."""

    def __init__(self, raw: Bytes, what: str) -> None:
        self.raw, self.what, self.position = raw, what, 0

    def take(self, n: int) -> Bytes:
        """The next n bytes."""
        left = len(self.raw) - self.position
        if n > left:
            raise ValueError(f"the {self.what} has only {left} of the {n} bytes that should follow")
        self.position += n
        return self.raw[self.position - n : self.position]

    def peek(self) -> int | None:
        """The next byte, which is not consumed; None at the end."""
        return self.raw[self.position] if self.position < len(self.raw) else None

    def varint(self) -> int:
        """The inverse of `varint`; at most ten bytes, which hold 70 bits."""
        n = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            n |= (byte & 127) << shift
            if byte < 128:
                return n
        raise ValueError(f"the {self.what} holds a number of more than ten bytes")

    def signed(self) -> int:
        """The inverse of `signed`."""
        n = self.varint()
        return -(n + 1) // 2 if n & 1 else n // 2

    def text(self) -> str:
        """The inverse of `text`."""
        try:
            return str(self.take(self.varint()), "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"the {self.what} holds a name that is not UTF-8") from error

    def choice(self, name: str, options: tuple[str, ...]) -> str:
        """One of `options`, stored as its index."""
        place = self.varint()
        if place >= len(options):
            raise ValueError(f"unknown {name} {place}; this version of labkit knows {', '.join(options)}")
        return options[place]

    def end(self) -> None:
        """Refuse bytes that are left over."""
        if self.position != len(self.raw):
            raise ValueError(f"the {self.what} goes on for {len(self.raw) - self.position} bytes after its end")
