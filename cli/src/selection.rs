//! Which snapshots a person means: by host, tag and path; by id, the beginning of an id, or `latest`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use chunkstore::catalog::Catalog;
use chunkstore::entry_key::EntryKey;
use chunkstore::version::{Snapshot, Version};

use crate::args::Selection;
use crate::exit::Failure;
use crate::paths;
use crate::render::{path, snapshot, time};

/// Whether a snapshot is of one of the hosts, has one of the sets of tags, and has all of the paths.
fn is_selected(selection: &Selection, snapshot: &Snapshot) -> bool {
    let host =
        selection.host.is_empty() || selection.host.iter().any(|host| host.as_bytes() == snapshot.host);
    let has_tags = |tags: &str| {
        tags.split(',')
            .filter(|tag| !tag.is_empty())
            .all(|tag| snapshot.tags.iter().any(|has| has == tag.as_bytes()))
    };
    let tags = selection.tag.is_empty() || selection.tag.iter().any(|tags| has_tags(tags));
    let has_path = |path: &Path| {
        // As roots are kept.
        let path = paths::absolute(path).unwrap_or_else(|_| path.to_owned());
        snapshot.roots.iter().any(|root| root == path.as_os_str().as_bytes())
    };
    host && tags && selection.path.iter().all(|path| has_path(path))
}

/// The snapshots that a selection leaves, in the order they came.
pub(crate) fn select(snapshots: Vec<Snapshot>, selection: &Selection) -> Vec<Snapshot> {
    snapshots.into_iter().filter(|snapshot| is_selected(selection, snapshot)).collect()
}

/// The last `count` of each host and set of roots, in the order they came.
pub(crate) fn last_of_each(snapshots: Vec<Snapshot>, count: usize) -> Vec<Snapshot> {
    let mut kept: Vec<Snapshot> = Vec::new();
    for snapshot in snapshots.into_iter().rev() {
        let alike =
            kept.iter().filter(|other| other.host == snapshot.host && other.roots == snapshot.roots).count();
        if alike < count {
            kept.push(snapshot);
        }
    }
    kept.reverse();
    kept
}

/// The one snapshot that `id` means: `latest` among the selected ones, else an id or the beginning of one among all.
///
/// # Errors
/// If there is none, or more than one.
pub(crate) fn resolve<'a>(
    snapshots: &'a [Snapshot],
    selection: &Selection,
    id: &str,
) -> Result<&'a Snapshot, Failure> {
    if id == "latest" {
        return snapshots
            .iter()
            .filter(|snapshot| is_selected(selection, snapshot))
            .max_by_key(|snapshot| snapshot.time)
            .ok_or_else(|| match snapshots.len() {
                0 => Failure::Usage("there is no snapshot yet: make one with `versions backup`".into()),
                n => Failure::Usage(format!("none of the {n} snapshots is of that host, tag and path")),
            });
    }
    find(snapshots, id)?.ok_or_else(|| {
        Failure::Usage(match id.split_once(':') {
            // As `restore` has it.
            Some((id, path)) if !path.is_empty() => {
                format!("there is no snapshot {id}:{path}: here the path is an argument of its own, as in `{id} {path}`")
            }
            _ => format!("there is no snapshot {id:?}: `versions snapshots` lists them"),
        })
    })
}

/// What an id stands for.
#[derive(Debug)]
pub(crate) enum Chosen {
    /// A snapshot.
    Snapshot(Box<Snapshot>),
    /// A Version of a file, and where the file was then.
    Version(EntryKey, Box<Version>),
}

/// The snapshot that `id` means, or the Version of the entry at `key`.
///
/// # Errors
/// If there is neither, or more than one.
pub(crate) fn choose(
    catalog: &Catalog,
    selection: &Selection,
    id: &str,
    key: Option<&EntryKey>,
) -> Result<Chosen, Failure> {
    let snapshots = catalog.snapshots()?;
    if id == "latest" || find(&snapshots, id)?.is_some() {
        return resolve(&snapshots, selection, id)
            .map(|snapshot| Chosen::Snapshot(Box::new(snapshot.clone())));
    }
    let Some(key) = key else {
        return resolve(&snapshots, selection, id).map(|one| Chosen::Snapshot(Box::new(one.clone())));
    };
    // People write UUIDs with dashes and without.
    let digits: String = id.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
    let mut matching: Vec<(EntryKey, Version)> = Vec::new();
    for timeline in catalog.timelines()? {
        for entry in catalog.log(timeline.id, key)? {
            if let Some(version) = entry.version
                && !digits.is_empty()
                && version.id.to_string().starts_with(&digits)
                && !matching.iter().any(|(_, other)| other.id == version.id)
            {
                matching.push((entry.key, version));
            }
        }
    }
    let shown = path::show(&key.path_bytes()).into_owned();
    let count = matching.len();
    match matching.pop() {
        Some((key, version)) if count == 1 => Ok(Chosen::Version(key, Box::new(version))),
        Some(_) => {
            Err(Failure::Usage(format!("{count} Versions of {shown} begin with {id:?}: give more digits")))
        }
        None => Err(Failure::Usage(format!(
            "{id:?} is no snapshot and no Version of {shown}: `versions snapshots` and `versions log {shown}` list them"
        ))),
    }
}

/// The one snapshot whose id begins with `id`, if there is one.
///
/// # Errors
/// If there is more than one.
pub(crate) fn find<'a>(snapshots: &'a [Snapshot], id: &str) -> Result<Option<&'a Snapshot>, Failure> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let id = id.to_ascii_lowercase();
    let matching: Vec<&Snapshot> =
        snapshots.iter().filter(|snapshot| snapshot.id.to_string().starts_with(&id)).collect();
    match matching.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let list: Vec<String> = several
                .iter()
                .take(4)
                .map(|one| {
                    format!(
                        "{} of {} ({})",
                        snapshot::short(&one.id),
                        time::show(one.time),
                        path::show(&one.host)
                    )
                })
                .collect();
            Err(Failure::Usage(format!(
                "{} snapshots begin with {id:?}, for instance {}: give more digits",
                several.len(),
                list.join(", ")
            )))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use chunkstore::id::{SnapshotId, TimelineId, WriterId};
    use chunkstore::metadata::Timestamp;
    use chunkstore::version::{SnapshotNumber, SnapshotStats};

    use super::*;

    pub(crate) fn snapshot(id: u8, seconds: i64, host: &str, tags: &[&str], roots: &[&str]) -> Snapshot {
        let bytes = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        Snapshot {
            id: SnapshotId::from_bytes([id; 16]),
            timeline: TimelineId::from_bytes([0; 16]),
            number: SnapshotNumber(1),
            parent: None,
            writer: WriterId::from_bytes([0; 16]),
            time: Timestamp { seconds, nanoseconds: 0 },
            end: Timestamp { seconds: seconds + 1, nanoseconds: 0 },
            host: host.as_bytes().to_vec(),
            user: b"me".to_vec(),
            program: b"versions 0".to_vec(),
            roots: bytes(roots),
            tags: bytes(tags),
            excludes: Vec::new(),
            partial: false,
            stats: SnapshotStats::default(),
            digest: [0; 32],
        }
    }

    fn some() -> Vec<Snapshot> {
        vec![
            snapshot(0x11, 1, "a", &["x", "y"], &["/r"]),
            snapshot(0x12, 2, "b", &["x"], &["/r", "/s"]),
            snapshot(0x21, 3, "a", &[], &["/r"]),
        ]
    }

    fn ids(snapshots: &[Snapshot]) -> Vec<u8> {
        snapshots.iter().map(|snapshot| snapshot.id.as_bytes()[0]).collect()
    }

    #[test]
    fn chosen_by_host_tag_and_path() {
        let chosen = |host: &[&str], tag: &[&str], path: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
            let selection =
                Selection { host: texts(host), tag: texts(tag), path: path.iter().map(Into::into).collect() };
            ids(&select(some(), &selection))
        };
        assert_eq!(chosen(&[], &[], &[]), [0x11, 0x12, 0x21]);
        assert_eq!(chosen(&["a"], &[], &[]), [0x11, 0x21]);
        assert_eq!(chosen(&["a", "b"], &["x"], &[]), [0x11, 0x12]);
        assert_eq!(chosen(&[], &["x,y"], &[]), [0x11]);
        assert_eq!(chosen(&[], &["x,y", "x"], &[]), [0x11, 0x12]);
        assert_eq!(chosen(&[], &[], &["/r/", "/s"]), [0x12]);
        assert_eq!(chosen(&[], &[], &["/r/../s/."]), [0x12]);
    }

    #[test]
    fn the_last_of_each_host_and_roots() {
        assert_eq!(ids(&last_of_each(some(), 1)), [0x12, 0x21]);
        assert_eq!(ids(&last_of_each(some(), 2)), [0x11, 0x12, 0x21]);
    }

    #[test]
    fn ids_and_their_beginnings() {
        let all = some();
        let id = |text: &str| {
            resolve(&all, &Selection::default(), text)
                .map(|snapshot| snapshot.id.as_bytes()[0])
                .map_err(|e| e.to_string())
        };
        assert_eq!(id("latest"), Ok(0x21));
        assert_eq!(id("21"), Ok(0x21));
        assert_eq!(id(&"12".repeat(16)), Ok(0x12));
        assert!(id("1").unwrap_err().contains("2 snapshots begin"));
        for none in ["", "3", "zz", "é"] {
            assert!(id(none).unwrap_err().contains("no snapshot"), "{none}");
        }
        let of_b = Selection { host: vec!["b".into()], ..Selection::default() };
        assert_eq!(resolve(&all, &of_b, "latest").unwrap().id.as_bytes()[0], 0x12);
        assert!(resolve(&[], &of_b, "latest").unwrap_err().to_string().contains("no snapshot yet"));
    }
}
