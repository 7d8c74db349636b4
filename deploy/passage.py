"""Access control entries: let one system user pass through folders that are closed to others, such as root's home.

Their mode is not opened to everybody: only this user may pass, and not list. The format is that of the kernel's
`system.posix_acl_access` (linux/posix_acl_xattr.h): a version, then entries of tag, permissions and id.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import struct
from pathlib import Path

log = logging.getLogger("threadlog.postgres")

_ACL = "system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_PASS = 1


def let_pass(path: Path, uid: int) -> None:
    """Let the user pass through every folder above `path`, where others may not.

    Raises:
        OSError: with the folder's name: the file system has no access control lists, or forbids it.
    """
    for folder in path.parents:
        status = folder.stat()
        if status.st_mode & stat.S_IXOTH or status.st_uid == uid:
            continue
        entries = _entries(folder, status.st_mode)
        if entries.get((_USER, uid), 0) & entries.get((_MASK, _NO_ID), 7) & _PASS:
            continue
        log.info("letting the database's system user, and no other, pass through %s", folder)
        entries[_USER, uid] = entries.get((_USER, uid), 0) | _PASS
        named = [bits for (tag, _), bits in entries.items() if tag in (_USER, _GROUP, _NAMED_GROUP)]
        mask = entries.get((_MASK, _NO_ID), 0) | _PASS
        if (_MASK, _NO_ID) not in entries:
            for bits in named:
                mask |= bits
        entries[_MASK, _NO_ID] = mask
        body = b"".join(_ENTRY.pack(tag, bits, identity) for (tag, identity), bits in sorted(entries.items()))
        if not hasattr(os, "setxattr"):
            raise OSError(errno.ENOTSUP, "closed to others", str(folder))
        os.setxattr(folder, _ACL, _VERSION + body)


def _entries(folder: Path, mode: int) -> dict[tuple[int, int], int]:
    """`{(tag, id): permissions}` as they are; those of the mode where there is no list."""
    try:
        found = os.getxattr(folder, _ACL) if hasattr(os, "getxattr") else b""
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        found = b""
    if found:
        return {(tag, identity): bits for tag, bits, identity in _ENTRY.iter_unpack(found[len(_VERSION) :])}
    return {
        (_OWNER, _NO_ID): mode >> 6 & 7,
        (_GROUP, _NO_ID): mode >> 3 & 7,
        (_OTHERS, _NO_ID): mode & 7,
    }
