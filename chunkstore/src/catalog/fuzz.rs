//! Rows that nobody wrote, for the fuzzer.

use super::holdings::Holding;
use super::row::{ChunkRow, CurrentRow, FrameRow, HistoryRow, PackRow, SnapshotRow, TimelineRow};
use super::store::SEGMENT_KEY_BYTES;
use super::writers::SegmentInfo;
use crate::segment::SegmentName;

/// The value of a row of any keyspace: an error, or a row that comes back when it is written.
pub(crate) fn row(bytes: &[u8]) {
    macro_rules! comes_back {
        ($($row:ty),*) => {
            $(if let Ok(row) = <$row>::decode(bytes) {
                assert_eq!(<$row>::decode(&row.encode()).ok(), Some(row), "what was read can be written");
            })*
        };
    }
    comes_back!(HistoryRow, CurrentRow, TimelineRow, SnapshotRow, PackRow, FrameRow, ChunkRow, Holding);
    let _ = SegmentName::from_row_key(bytes);
    if let Some((key, value)) = bytes.split_at_checked(SEGMENT_KEY_BYTES) {
        let _ = SegmentInfo::decode(key, value);
    }
}

/// A row of each kind: what a fuzzer had better begin with.
#[cfg(test)]
pub(crate) fn rows() -> Vec<(&'static str, Vec<u8>)> {
    use super::holdings::Verdict;
    use super::row::{FileRef, VersionRow};
    use super::store::TimelineNumber;
    use crate::id::{ChunkId, FileId, ObjectHash, TimelineId, WriterId};
    use crate::metadata::{Kind, Metadata};
    use crate::segment::{PieceFlags, Record, RecordReader, Sequence};
    use crate::version::{Contents, Marks, SnapshotNumber};

    let metadata = Metadata::new(Kind::File);
    let file = FileRef::BornHere(SnapshotNumber(3));
    let (mut run, mut commit) = (None, None);
    let records = crate::fuzz::tests::some_records();
    let mut reader = RecordReader::new(&records);
    while let Some(record) = reader.next_record().unwrap() {
        match record {
            Record::Run(record) => run = Some(record),
            Record::Commit(record) => commit = Some(*record),
            _ => {}
        }
    }
    let version = VersionRow {
        file,
        marks: Marks::RACY,
        contents: Contents::Inline(vec![ChunkId::from_bytes([8; 32])]),
        metadata: metadata.clone(),
    };
    let renamed = FileRef::Explicit(FileId::from_bytes([4; 16]));
    let timeline = TimelineRow {
        id: TimelineId::from_bytes([2; 16]),
        forked_from: Some((TimelineNumber(1), SnapshotNumber(8))),
        head: Some(SnapshotNumber(9)),
        host: b"engine".to_vec(),
        roots: vec![b"/home".to_vec()],
    };
    let snapshot = SnapshotRow {
        writer: WriterId::from_bytes([6; 16]),
        commit_sequence: Sequence(4),
        commit_hash: ObjectHash::from_bytes([7; 32]),
        digest: [5; 32],
        run: run.unwrap(),
        commit: commit.unwrap(),
    };
    let pack = PackRow {
        name: ObjectHash::from_bytes([9; 32]),
        is_logged: true,
        stored_bytes: 1234,
        frame_count: 2,
        chunk_count: 30,
        raw_bytes: 5000,
    };
    let chunk = ChunkRow { pack: 1, frame: 2, index: 3, raw_offset: 400, length: 500 };
    let holding = Holding { held: true, length: 1234, verified: 1_764_061_200, verdict: Verdict::Good };
    let info = SegmentInfo {
        name: crate::segment::tests::golden(crate::seal::Cipher::None).name,
        length: 99,
        predecessor: ObjectHash::from_bytes([0; 32]),
        flags: PieceFlags { begins: true, commits: false },
    };
    let info = [super::store::segment(&info.name), info.encode()].concat();
    vec![
        ("history-gone", HistoryRow::Gone.encode()),
        ("history-version", HistoryRow::Version(Box::new(version)).encode()),
        ("current", CurrentRow::new(SnapshotNumber(9), renamed, Marks::NONE, &metadata).encode()),
        ("timeline", timeline.encode()),
        ("snapshot", snapshot.encode()),
        ("pack", pack.encode()),
        ("frame", FrameRow { offset: 112, stored_bytes: 900, raw_bytes: 1000 }.encode()),
        ("chunk", chunk.encode().to_vec()),
        ("holding", holding.encode()),
        ("segment", info),
    ]
}
