//! Files as they are read: holes, and what happens to them meanwhile.

use super::*;

/// A file with bytes at `data` (offset and length in blocks) and holes between, `blocks` long. `None` where holes are not kept.
fn sparse(path: &Path, blocks: u64, data: &[(u64, u64)]) -> Option<fs::File> {
    let file = fs::File::create_new(path).unwrap();
    file.set_len(blocks * 4096).unwrap();
    for &(offset, length) in data {
        file.write_all_at(&vec![7; usize::try_from(length * 4096).unwrap()], offset * 4096).unwrap();
    }
    let first = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)).unwrap();
    (first < blocks * 4096).then_some(file)
}

#[test]
fn holes_are_found_and_not_read() {
    let (_guard, base) = scratch();
    for (number, data) in
        [&[(0, 4)][..], &[(8, 8)], &[(0, 1), (63, 1)], &[], &[(4, 4), (16, 8), (40, 4)]].iter().enumerate()
    {
        let path = base.join(number.to_string());
        if sparse(&path, 64, data).is_none() {
            return;
        }
        let mut file = entry_of(&path).open().unwrap();
        let bytes = read_all(&mut file);
        let length: u64 = data.iter().map(|(_, length)| length * 4096).sum();
        assert_eq!(bytes.len() as u64, length);
        let outcome = file.finish().unwrap();
        assert_eq!((outcome.size, outcome.changed), (64 * 4096, false));
        let mut at = 0;
        let mut expected = Vec::new();
        for &(offset, length) in data.iter().chain([&(64, 0)]) {
            if offset > at {
                expected.push(Hole { offset: at * 4096, length: (offset - at) * 4096 });
            }
            at = offset + length;
        }
        assert_eq!(outcome.holes, expected, "{data:?}");
    }
}

#[test]
fn beyond_very_many_holes_zeros_are_bytes() {
    let (_guard, base) = scratch();
    let data: Vec<(u64, u64)> = (0..120).map(|number| (2 * number + 1, 1)).collect();
    if sparse(&base.join("file"), 240, &data).is_none() {
        return;
    }
    let mut file = entry_of(&base.join("file")).open().unwrap();
    let bytes = read_all(&mut file);
    let outcome = file.finish().unwrap();
    assert_eq!((outcome.size, outcome.holes.len(), outcome.changed), (240 * 4096, 100, false));
    assert_eq!(bytes.len() as u64 + outcome.holes.iter().map(|hole| hole.length).sum::<u64>(), 240 * 4096);
    // The first hundred blocks of data, then hole and data as they come: zeros and sevens.
    assert_eq!(bytes.iter().filter(|byte| **byte == 7).count(), 120 * 4096);
    assert_eq!(&bytes[100 * 4096..100 * 4096 + 2], [0, 0]);
}

#[test]
fn zeros_that_are_written_are_bytes() {
    let (_guard, base) = scratch();
    fs::write(base.join("zeros"), vec![0; 65536]).unwrap();
    let mut file = entry_of(&base.join("zeros")).open().unwrap();
    assert_eq!(read_all(&mut file), vec![0; 65536]);
    assert_eq!(file.finish().unwrap().holes, []);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_said_to_have() {
    let (_guard, base) = scratch();
    let path = base.join("file");
    let open = || {
        fs::write(&path, vec![1; 10_000]).unwrap();
        entry_of(&path).open().unwrap()
    };

    let mut still = open();
    assert_eq!(read_all(&mut still).len(), 10_000);
    assert!(!still.finish().unwrap().changed);

    let mut grows = open();
    assert_eq!(grows.read(&mut [0; 100]).unwrap(), 100);
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&[2; 5000]).unwrap();
    assert_eq!(read_all(&mut grows).len(), 9_900, "a log that never ends must not keep the reader");
    let outcome = grows.finish().unwrap();
    assert_eq!((outcome.size, outcome.changed), (10_000, true));

    let mut shrinks = open();
    assert_eq!(shrinks.read(&mut [0; 100]).unwrap(), 100);
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(3000).unwrap();
    assert_eq!(read_all(&mut shrinks).len(), 2_900);
    let outcome = shrinks.finish().unwrap();
    assert_eq!((outcome.size, outcome.changed), (3000, true));

    let mut rewritten = open();
    rewritten.read(&mut [0; 100]).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[9; 10], 50).unwrap();
    read_all(&mut rewritten);
    assert!(rewritten.finish().unwrap().changed);

    let emptied = open();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    let mut emptied = emptied;
    assert_eq!(read_all(&mut emptied), []);
    let outcome = emptied.finish().unwrap();
    assert_eq!((outcome.size, outcome.holes, outcome.changed), (0, vec![], true));
}

#[test]
fn what_took_a_files_place_is_not_read() {
    let (_guard, base) = scratch();
    make(&base, &["file", "secret"]);
    let path = base.join("file");
    let entry = entry_of(&path);
    let swap = |make: &dyn Fn()| {
        fs::remove_file(&path).unwrap();
        make();
        let kind = entry.open().map(|_| ()).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Source);
    };
    swap(&|| symlink("secret", &path).unwrap());
    swap(&|| rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap());
    swap(&|| drop(std::os::unix::net::UnixListener::bind(&path).unwrap()));
    fs::remove_file(&path).unwrap();
    assert_eq!(entry.open().unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn reading_leaves_the_time_of_access() {
    let (_guard, base) = scratch();
    make(&base, &["file"]);
    let path = base.join("file");
    let old = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1000, tv_nsec: 0 },
        last_modification: rustix::fs::Timespec { tv_sec: 2000, tv_nsec: 0 },
    };
    rustix::fs::utimensat(CWD, &path, &old, rustix::fs::AtFlags::empty()).unwrap();
    read_all(&mut entry_of(&path).open().unwrap());
    let stat = rustix::fs::statat(CWD, &path, rustix::fs::AtFlags::empty()).unwrap();
    assert_eq!(stat.st_atime, 1000);
}

#[test]
fn only_the_scans_own_tick_is_racy() {
    let start = ScanStart::at(UNIX_EPOCH + Duration::new(1000, 5_000_000));
    let racy = |seconds, nanoseconds| start.is_racy(Timestamp { seconds, nanoseconds });
    assert!(racy(1000, 5_000_001) && racy(1001, 1) && racy(1000, 1));
    assert!(racy(999, 985_000_000), "within a tick before the start");
    assert!(!racy(999, 984_999_999) && !racy(0, 1) && !racy(-5, 1));
    assert!(racy(998, 0) && !racy(997, 0), "whole seconds are a coarse clock's");
}
