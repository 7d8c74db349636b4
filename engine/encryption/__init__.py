"""Encryption at rest: the cipher, the data keys, which parts of commands are content, and where it is decrypted."""
