"""Uploaded bytes: where the contents of stored files are kept."""

from cvx.backend.files.interface import FileDigest, FileStore, KeptFile, OpenFile, file_is_missing, new_key
from cvx.backend.files.local import FolderFileStore, open_folder_store
from cvx.backend.files.pieces import pieces_of

__all__ = [
    "FileDigest",
    "FileStore",
    "FolderFileStore",
    "KeptFile",
    "OpenFile",
    "file_is_missing",
    "new_key",
    "open_folder_store",
    "pieces_of",
]
