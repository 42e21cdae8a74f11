//! A file system; being written.
