//! One entry of a snapshot, as `ls` shows it.

use std::fmt::Write as _;

use chunkstore::metadata::{Kind, Metadata};
use serde::Serialize;

use super::{mode, path, time};

/// An entry for programs: restic's `node`.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    message_type: &'static str,
    struct_type: &'static str,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    path: String,
    /// The path's bytes in hexadecimal, where `path` had to be escaped; ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    mode: u32,
    permissions: String,
    mtime: String,
    ctime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    linktarget: Option<String>,
    links: u64,
    inode: u64,
}

impl Node {
    /// The entry at a path.
    pub(crate) fn new(full: &[u8], metadata: &Metadata) -> Self {
        let shown = path::show(full);
        let name = full.rsplit(|byte| *byte == b'/').next().unwrap_or(full);
        Self {
            message_type: "node",
            struct_type: "node",
            name: path::show(name).into_owned(),
            kind: mode::word(metadata.kind),
            path_hex: (shown.as_bytes() != full).then(|| path::hex(full)),
            path: shown.into_owned(),
            uid: metadata.uid,
            gid: metadata.gid,
            user: path::show(&metadata.user).into_owned(),
            group: path::show(&metadata.group).into_owned(),
            size: (metadata.kind == Kind::File).then_some(metadata.size),
            mode: mode::number(metadata),
            permissions: mode::letters(metadata),
            mtime: time::rfc3339(metadata.mtime),
            ctime: time::rfc3339(metadata.ctime),
            linktarget: metadata.link_target.as_ref().map(|target| path::show(target).into_owned()),
            links: metadata.links,
            inode: metadata.inode,
        }
    }
}

/// An entry as a line of `ls -l`, without the line's end.
pub(crate) fn long(full: &[u8], metadata: &Metadata) -> String {
    let owner =
        |name: &[u8], id: u32| if name.is_empty() { id.to_string() } else { path::show(name).into_owned() };
    let size = match metadata.device_number {
        Some((major, minor)) => format!("{major},{minor}"),
        None => metadata.size.to_string(),
    };
    let mut line = format!(
        "{} {:>8} {:>8} {:>12} {} {}",
        mode::letters(metadata),
        owner(&metadata.user, metadata.uid),
        owner(&metadata.group, metadata.gid),
        size,
        time::show(metadata.mtime),
        path::show(full),
    );
    if let Some(target) = &metadata.link_target {
        let _ = write!(line, " -> {}", path::show(target));
    }
    line
}

#[cfg(test)]
pub(crate) mod tests {
    use chunkstore::metadata::Timestamp;

    use super::*;

    pub(crate) fn metadata(kind: Kind, mode: u16) -> Metadata {
        Metadata {
            kind,
            mode,
            uid: 1000,
            gid: 100,
            user: b"me".to_vec(),
            group: Vec::new(),
            mtime: Timestamp { seconds: 1_000_000_000, nanoseconds: 5 },
            ctime: Timestamp::default(),
            birth: None,
            size: 42,
            device: 1,
            inode: 2,
            links: 1,
            device_number: None,
            link_target: (kind == Kind::Symlink).then(|| b"to\n".to_vec()),
            xattrs: Vec::new(),
            holes: Vec::new(),
        }
    }

    #[test]
    fn a_long_line() {
        let line = long(b"/a/b", &metadata(Kind::Symlink, 0o777));
        assert!(line.starts_with("lrwxrwxrwx       me      100           42 2001-09-0"), "{line}");
        assert!(line.ends_with(" /a/b -> to\\n"), "{line}");
    }

    #[test]
    fn a_node_has_the_bytes_of_a_name_that_is_no_text() {
        let node = serde_json::to_value(Node::new(b"/a/\xff", &metadata(Kind::File, 0o600))).unwrap();
        assert_eq!(node["path"], "/a/\\xff");
        assert_eq!(node["path_hex"], "2f612fff");
        assert_eq!(node["name"], "\\xff");
        assert_eq!(node["size"], 42);
        let plain = serde_json::to_value(Node::new(b"/a/b", &metadata(Kind::Directory, 0o755))).unwrap();
        assert!(plain.get("path_hex").is_none() && plain.get("size").is_none());
        assert_eq!(plain["type"], "dir");
    }
}
