"""Cut a file into messages, and put it together again, checking every piece."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator

from warren.errors import NotFound, RemoteProtocolError
from warren.rpc._pb import provisioner_pb2 as pb
from warren.rpc._pb import provisionerd_pb2 as pbd

CHUNK_BYTES = 2 << 20
MAX_FILE_BYTES = 100 << 20
_HASH_BYTES = 32


class Assembly:
    """A file that arrives in pieces."""

    def __init__(self, announced: pb.DataUpload) -> None:
        if not 0 <= announced.file_size <= MAX_FILE_BYTES:
            raise RemoteProtocolError(f"a file of {announced.file_size} bytes was announced")
        most = -(-announced.file_size // CHUNK_BYTES)
        if not 0 <= announced.chunks <= most or len(announced.data_hash) != _HASH_BYTES:
            raise RemoteProtocolError(f"a file in {announced.chunks} pieces was announced")
        self._announced = announced
        self._data = bytearray()
        self._pieces = 0

    @property
    def complete(self) -> bool:
        """Tell whether all pieces are there."""
        return self._pieces == self._announced.chunks

    def add(self, piece: pb.ChunkPiece) -> None:
        """Take the next piece.

        Raises:
            RemoteProtocolError: it is not the next one of this file, or the file grows too large.
        """
        announced = self._announced
        if self.complete or piece.piece_index != self._pieces or piece.full_data_hash != announced.data_hash:
            raise RemoteProtocolError(f"piece {piece.piece_index} does not belong here")
        if len(self._data) + len(piece.data) > announced.file_size:
            raise RemoteProtocolError("the file is longer than was announced")
        self._data += piece.data
        self._pieces += 1

    def data(self) -> bytes:
        """Give the whole file.

        Raises:
            RemoteProtocolError: its size or its digest are not what was announced.
        """
        data = bytes(self._data)
        if len(data) != self._announced.file_size or hashlib.sha256(data).digest() != self._announced.data_hash:
            raise RemoteProtocolError("the file is not what was announced")
        return data


async def receive(next_message: Callable[[], Awaitable[pb.FileUpload]]) -> bytes:
    """Receive a whole file.

    Raises:
        NotFound: the server does not have it.
        RemoteProtocolError: what arrived is not what was announced.
    """
    first = await next_message()
    if first.HasField("error"):
        raise NotFound(first.error.error)
    if not first.HasField("data_upload"):
        raise RemoteProtocolError("a piece arrived before its file was announced")
    assembly = Assembly(first.data_upload)
    while not assembly.complete:
        message = await next_message()
        if message.HasField("error"):
            raise NotFound(message.error.error)
        assembly.add(message.chunk_piece)
    return assembly.data()


def messages(data: bytes) -> Iterator[pbd.UploadFileRequest]:
    """Cut a file of modules into messages."""
    digest = hashlib.sha256(data).digest()
    chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
    yield pbd.UploadFileRequest(
        data_upload=pb.DataUpload(
            upload_type=pb.UPLOAD_TYPE_MODULE_FILES, data_hash=digest, file_size=len(data), chunks=len(chunks)
        )
    )
    for index, chunk in enumerate(chunks):
        yield pbd.UploadFileRequest(chunk_piece=pb.ChunkPiece(data=chunk, full_data_hash=digest, piece_index=index))
