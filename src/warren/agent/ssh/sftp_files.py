"""An SFTP server on the real file system. Everything here blocks: it runs in a worker thread."""

# Names are bytes here, which pathlib does not know.
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH111, PTH115, PTH116, PTH118, PTH208, PTH211

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Literal

from warren.agent.ssh import sftp_wire as wire
from warren.agent.ssh.sftp_wire import Attributes, Fields, Name, OpenFlag, Reply, Request, Status

VERSION = 3
MAX_HANDLES = 1000
ENTRIES_PER_READ = 128
EXTENSIONS = {
    b"posix-rename@openssh.com": b"1",
    b"statvfs@openssh.com": b"2",
    b"fstatvfs@openssh.com": b"2",
    b"hardlink@openssh.com": b"1",
    b"fsync@openssh.com": b"1",
    b"lsetstat@openssh.com": b"1",
    b"limits@openssh.com": b"1",
    b"expand-path@openssh.com": b"1",
    b"copy-data": b"1",
    b"home-directory": b"1",
}
_COPY_BYTES = 1024 * 1024

_STATUS_OF = {
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP), Status.NO_SUCH_FILE),
    **dict.fromkeys((errno.EPERM, errno.EACCES, errno.EFAULT), Status.PERMISSION_DENIED),
    **dict.fromkeys((errno.ENAMETOOLONG, errno.EINVAL), Status.BAD_MESSAGE),
    errno.ENOSYS: Status.UNSUPPORTED,
}


class _OpenFile:
    def __init__(self, descriptor: int, *, append: bool) -> None:
        self.descriptor, self.append = descriptor, append

    def close(self) -> None:
        os.close(self.descriptor)


class _OpenDirectory:
    def __init__(self, path: bytes) -> None:
        self.path = path
        self.entries: Iterator[bytes] = iter([b".", b"..", *os.listdir(path)])

    def close(self) -> None:
        self.entries = iter(())


class _EndOfFile(Exception):
    """There is no more to read."""


class FileServer:
    """Answers the requests of one client; relative paths begin at `base`."""

    def __init__(self, base: str, home: str) -> None:
        self._base, self._home = os.fsencode(base), os.fsencode(home)
        self._decoder = wire.Decoder()
        self._replies = wire.Replies()
        self._handles: dict[bytes, _OpenFile | _OpenDirectory] = {}
        self._next_handle = 0
        self._answers: dict[int, Callable[[int, Fields], bytes]] = {
            Request.OPEN: self._open,
            Request.CLOSE: self._close,
            Request.READ: self._read,
            Request.WRITE: self._write,
            Request.LSTAT: self._lstat,
            Request.FSTAT: self._fstat,
            Request.STAT: self._stat,
            Request.SETSTAT: self._setstat,
            Request.FSETSTAT: self._fsetstat,
            Request.OPENDIR: self._opendir,
            Request.READDIR: self._readdir,
            Request.REMOVE: self._remove,
            Request.MKDIR: self._mkdir,
            Request.RMDIR: self._rmdir,
            Request.REALPATH: self._realpath,
            Request.RENAME: self._rename,
            Request.READLINK: self._readlink,
            Request.SYMLINK: self._symlink,
            Request.EXTENDED: self._extended,
        }
        self._extensions: dict[bytes, Callable[[int, Fields], bytes]] = {
            b"posix-rename@openssh.com": self._posix_rename,
            b"statvfs@openssh.com": self._statvfs,
            b"fstatvfs@openssh.com": self._fstatvfs,
            b"hardlink@openssh.com": self._hardlink,
            b"fsync@openssh.com": self._fsync,
            b"lsetstat@openssh.com": self._lsetstat,
            b"limits@openssh.com": self._limits,
            b"expand-path@openssh.com": self._expand_path,
            b"copy-data": self._copy_data,
            b"home-directory": self._home_directory,
        }

    def feed(self, chunks: Iterable[bytes]) -> None:
        """Take in requests."""
        self._decoder.feed(chunks)

    def answer(self, limit_bytes: int) -> memoryview:
        """Do what was asked and return the replies, stopping after about `limit_bytes`; empty when all is done.

        The caller releases the memory before it asks again.

        Raises:
            RemoteProtocolError: the client broke the protocol.
        """
        with closing(self._decoder.packets()) as packets:
            for packet in packets:
                reply = self._answer(packet)
                if reply:
                    self._replies.add(reply)
                if len(self._replies) >= limit_bytes:
                    break
        return self._replies.take()

    def close(self) -> None:
        """Close what the client left open."""
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()

    def _answer(self, packet: memoryview) -> bytes:
        kind, fields = packet[0], Fields(packet[1:])
        request_id = fields.uint32()
        if kind == Request.INIT:  # the number is the client's version; ours is 3 whatever it says
            extensions = (wire.string(name) + wire.string(version) for name, version in EXTENSIONS.items())
            return wire.packet(Reply.VERSION, struct.pack(">I", VERSION), *extensions)
        answer = self._answers.get(kind)
        if answer is None:
            return wire.status_packet(request_id, Status.UNSUPPORTED, "Operation unsupported")
        try:
            return answer(request_id, fields)
        except _EndOfFile:
            return wire.status_packet(request_id, Status.EOF, "End of file")
        except OSError as error:
            status = _STATUS_OF.get(error.errno or 0, Status.FAILURE)
            return wire.status_packet(request_id, status, error.strerror or str(error))
        except ValueError as error:  # a NUL in a path
            return wire.status_packet(request_id, Status.BAD_MESSAGE, str(error))

    def _path(self, fields: Fields) -> bytes:
        return os.path.join(self._base, fields.string())

    def _file(self, fields: Fields) -> _OpenFile:
        handle = self._handles.get(fields.string())
        if not isinstance(handle, _OpenFile):
            raise OSError(errno.EBADF, "Invalid handle")
        return handle

    def _keep(self, request_id: int, handle: _OpenFile | _OpenDirectory) -> bytes:
        name = struct.pack(">I", self._next_handle)
        self._next_handle += 1
        self._handles[name] = handle
        return wire.packet(Reply.HANDLE, struct.pack(">I", request_id), wire.string(name))

    def _check_handles(self) -> None:
        if len(self._handles) >= MAX_HANDLES:
            raise OSError(errno.EMFILE, "Too many open handles")

    # Files

    def _open(self, request_id: int, fields: Fields) -> bytes:
        self._check_handles()
        path, wanted, attributes = self._path(fields), OpenFlag(fields.uint32() & 0x3F), fields.attributes()
        mode = 0o666 if attributes.permissions is None else stat.S_IMODE(attributes.permissions)
        descriptor = os.open(path, _open_flags(wanted), mode)
        return self._keep(request_id, _OpenFile(descriptor, append=OpenFlag.APPEND in wanted))

    def _close(self, request_id: int, fields: Fields) -> bytes:
        handle = self._handles.pop(fields.string(), None)
        if handle is None:
            raise OSError(errno.EBADF, "Invalid handle")
        handle.close()
        return _ok(request_id)

    def _read(self, request_id: int, fields: Fields) -> bytes:
        descriptor, offset = self._file(fields).descriptor, fields.uint64()
        most = min(fields.uint32(), wire.TRANSFER_BYTES)
        if not self._replies.add_data(request_id, most, lambda room: os.preadv(descriptor, [room], offset)):
            raise _EndOfFile
        return b""  # it stands among the replies already

    def _write(self, request_id: int, fields: Fields) -> bytes:
        file, offset, data = self._file(fields), fields.uint64(), fields.view()
        while data:
            written = os.write(file.descriptor, data) if file.append else os.pwrite(file.descriptor, data, offset)
            data, offset = data[written:], offset + written
        return _ok(request_id)

    def _fsync(self, request_id: int, fields: Fields) -> bytes:
        os.fsync(self._file(fields).descriptor)
        return _ok(request_id)

    def _copy_data(self, request_id: int, fields: Fields) -> bytes:
        source, offset, length = self._file(fields).descriptor, fields.uint64(), fields.uint64()
        target, at = self._file(fields).descriptor, fields.uint64()
        if source == target:
            raise OSError(errno.EINVAL, "Source and target are the same")
        left = length or None
        while left is None or left > 0:
            data = os.pread(source, min(left or _COPY_BYTES, _COPY_BYTES), offset)
            if not data:
                break
            at += os.pwrite(target, data, at)
            offset += len(data)
            left = None if left is None else left - len(data)
        return _ok(request_id)

    # Attributes

    def _stat(self, request_id: int, fields: Fields) -> bytes:
        return _attributes_reply(request_id, os.stat(self._path(fields)))

    def _lstat(self, request_id: int, fields: Fields) -> bytes:
        return _attributes_reply(request_id, os.lstat(self._path(fields)))

    def _fstat(self, request_id: int, fields: Fields) -> bytes:
        return _attributes_reply(request_id, os.fstat(self._file(fields).descriptor))

    def _setstat(self, request_id: int, fields: Fields) -> bytes:
        _change(self._path(fields), fields.attributes(), follow=True)
        return _ok(request_id)

    def _lsetstat(self, request_id: int, fields: Fields) -> bytes:
        _change(self._path(fields), fields.attributes(), follow=False)
        return _ok(request_id)

    def _fsetstat(self, request_id: int, fields: Fields) -> bytes:
        _change(self._file(fields).descriptor, fields.attributes(), follow=True)
        return _ok(request_id)

    def _statvfs(self, request_id: int, fields: Fields) -> bytes:
        return _file_system_reply(request_id, os.statvfs(self._path(fields)))

    def _fstatvfs(self, request_id: int, fields: Fields) -> bytes:
        return _file_system_reply(request_id, os.fstatvfs(self._file(fields).descriptor))

    # Folders and names

    def _opendir(self, request_id: int, fields: Fields) -> bytes:
        self._check_handles()
        return self._keep(request_id, _OpenDirectory(self._path(fields)))

    def _readdir(self, request_id: int, fields: Fields) -> bytes:
        handle = self._handles.get(fields.string())
        if not isinstance(handle, _OpenDirectory):
            raise OSError(errno.EBADF, "Invalid handle")
        names: list[Name] = []
        for name in handle.entries:
            try:
                status = os.lstat(os.path.join(handle.path, name))
            except FileNotFoundError:  # removed since the folder was listed
                continue
            names.append(Name(name, _attributes(status), status.st_nlink))
            if len(names) == ENTRIES_PER_READ:
                break
        if not names:
            raise _EndOfFile
        return wire.names_packet(request_id, names)

    def _remove(self, request_id: int, fields: Fields) -> bytes:
        os.unlink(self._path(fields))
        return _ok(request_id)

    def _mkdir(self, request_id: int, fields: Fields) -> bytes:
        path, attributes = self._path(fields), fields.attributes()
        os.mkdir(path, 0o777 if attributes.permissions is None else stat.S_IMODE(attributes.permissions))
        return _ok(request_id)

    def _rmdir(self, request_id: int, fields: Fields) -> bytes:
        os.rmdir(self._path(fields))
        return _ok(request_id)

    def _realpath(self, request_id: int, fields: Fields) -> bytes:
        return wire.names_packet(request_id, [Name(os.path.realpath(self._path(fields)))])

    def _expand_path(self, request_id: int, fields: Fields) -> bytes:
        path = fields.string()
        if path == b"~" or path.startswith(b"~/"):
            path = self._home + path[1:]
        elif path.startswith(b"~"):
            path = os.path.expanduser(path)
        return wire.names_packet(request_id, [Name(os.path.realpath(os.path.join(self._base, path)))])

    def _home_directory(self, request_id: int, fields: Fields) -> bytes:
        user = fields.string()
        home = os.path.expanduser(b"~" + user) if user else self._home
        return wire.names_packet(request_id, [Name(home)])

    def _rename(self, request_id: int, fields: Fields) -> bytes:
        old, new = self._path(fields), self._path(fields)
        if os.path.lexists(new):
            raise OSError(errno.EEXIST, "File exists")
        os.rename(old, new)
        return _ok(request_id)

    def _posix_rename(self, request_id: int, fields: Fields) -> bytes:
        old, new = self._path(fields), self._path(fields)
        os.rename(old, new)
        return _ok(request_id)

    def _hardlink(self, request_id: int, fields: Fields) -> bytes:
        old, new = self._path(fields), self._path(fields)
        os.link(old, new)
        return _ok(request_id)

    def _readlink(self, request_id: int, fields: Fields) -> bytes:
        return wire.names_packet(request_id, [Name(os.readlink(self._path(fields)))])

    def _symlink(self, request_id: int, fields: Fields) -> bytes:
        target = fields.string()  # what it points to comes first, as OpenSSH has it, not as the draft does
        os.symlink(target, self._path(fields))
        return _ok(request_id)

    # Extensions

    def _extended(self, request_id: int, fields: Fields) -> bytes:
        extension = self._extensions.get(fields.string())
        if extension is None:
            return wire.status_packet(request_id, Status.UNSUPPORTED, "Operation unsupported")
        return extension(request_id, fields)

    def _limits(self, request_id: int, fields: Fields) -> bytes:
        limits = struct.pack(">QQQQ", 256 * 1024, wire.TRANSFER_BYTES, wire.TRANSFER_BYTES, MAX_HANDLES)
        return wire.packet(Reply.EXTENDED_REPLY, struct.pack(">I", request_id), limits)


def _ok(request_id: int) -> bytes:
    return wire.status_packet(request_id, Status.OK, "Success")


def _open_flags(wanted: OpenFlag) -> int:
    both = OpenFlag.READ | OpenFlag.WRITE
    flags = os.O_CLOEXEC | os.O_NOCTTY
    flags |= os.O_RDWR if wanted & both == both else os.O_WRONLY if OpenFlag.WRITE in wanted else os.O_RDONLY
    for flag, value in (
        (OpenFlag.APPEND, os.O_APPEND),
        (OpenFlag.CREATE, os.O_CREAT),
        (OpenFlag.TRUNCATE, os.O_TRUNC),
        (OpenFlag.EXCLUSIVE, os.O_EXCL),
    ):
        flags |= value if flag in wanted else 0
    return flags


def _attributes(status: os.stat_result) -> Attributes:
    return Attributes(
        status.st_size, (status.st_uid, status.st_gid), status.st_mode, (int(status.st_atime), int(status.st_mtime))
    )


def _attributes_reply(request_id: int, status: os.stat_result) -> bytes:
    return wire.packet(Reply.ATTRS, struct.pack(">I", request_id), wire.attributes_field(_attributes(status)))


def _file_system_reply(request_id: int, status: os.statvfs_result) -> bytes:
    flags = (1 if status.f_flag & os.ST_RDONLY else 0) | (2 if status.f_flag & os.ST_NOSUID else 0)
    values = (status.f_bsize, status.f_frsize, status.f_blocks, status.f_bfree, status.f_bavail)
    inodes = (status.f_files, status.f_ffree, status.f_favail, status.f_fsid, flags, status.f_namemax)
    return wire.packet(Reply.EXTENDED_REPLY, struct.pack(">I", request_id), struct.pack(">11Q", *values, *inodes))


def _change(target: bytes | int, attributes: Attributes, *, follow: bool) -> None:
    if attributes.size is not None:
        os.truncate(target, attributes.size)
    options: dict[Literal["follow_symlinks"], bool] = {} if follow else {"follow_symlinks": False}
    if attributes.permissions is not None:
        os.chmod(target, stat.S_IMODE(attributes.permissions), **options)
    if attributes.times is not None:
        os.utime(target, attributes.times, **options)
    if attributes.owner is not None:
        os.chown(target, *attributes.owner, **options)
