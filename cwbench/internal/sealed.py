"""Files that begin with the sha256 of their content, so that half of one is told from a whole one."""

from cwbench.internal import digest

_LENGTH = 64  # hexadecimal digits of a sha256


def seal(body: bytes) -> bytes:
    """Return the content of a sealed file: the sha256 of ``body`` and ``body`` itself."""
    return digest.of_bytes(body).encode() + body


def unseal(whole: bytes) -> bytes:
    """Return the body of a sealed file.

    Raises:
        ValueError: the body does not have the sha256 that the file begins with.
    """
    body = whole[_LENGTH:]
    if digest.of_bytes(body).encode() != whole[:_LENGTH]:
        raise ValueError("its content does not have the sha256 that it begins with")
    return body
