//! What is captured of an entry besides its contents.

use super::*;

#[test]
fn every_kind_is_captured() {
    let (_guard, base) = scratch();
    make(&base, &["file", "dir/"]);
    symlink("file", base.join("link")).unwrap();
    let mode = Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(CWD, base.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    rustix::fs::mknodat(CWD, base.join("socket"), FileType::Socket, mode, 0).unwrap();
    let mut expected = vec![
        ("dir", Kind::Directory),
        ("fifo", Kind::Fifo),
        ("file", Kind::File),
        ("link", Kind::Symlink),
        ("socket", Kind::Socket),
    ];
    let device = rustix::fs::makedev(1, 300);
    if rustix::fs::mknodat(CWD, base.join("zdevice"), FileType::CharacterDevice, mode, device).is_ok() {
        expected.push(("zdevice", Kind::CharacterDevice));
    }
    let (entries, _) = steps(&[&base], &RuleOptions::default());
    let owners = Owners::default();
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| entry.path().parent() == Some(&base)) {
        let captured = entry.capture(&owners).unwrap();
        captured.metadata.check().unwrap();
        assert!(captured.faults.is_empty(), "{:?}", captured.faults);
        if captured.metadata.kind == Kind::CharacterDevice {
            assert_eq!(captured.metadata.device_number, Some((1, 300)));
        }
        found.push((entry.key().name().to_vec(), captured.metadata.kind));
    }
    let expected: Vec<(Vec<u8>, Kind)> =
        expected.into_iter().map(|(name, kind)| (name.into(), kind)).collect();
    assert_eq!(found, expected);
}

#[test]
fn extended_attributes_are_captured() {
    let (_guard, base) = scratch();
    make(&base, &["file"]);
    let path = base.join("file");
    let long = vec![b'v'; 2000];
    let set =
        |name: &str, value: &[u8]| rustix::fs::setxattr(&path, name, value, rustix::fs::XattrFlags::empty());
    if set("user.z", b"").is_err() {
        return;
    }
    set("user.a", &long).unwrap();
    let entry = entry_of(&path);
    let expected = vec![(b"user.a".to_vec(), long), (b"user.z".to_vec(), Vec::new())];
    let user = |xattrs: &[(Vec<u8>, Vec<u8>)]| {
        xattrs.iter().filter(|(name, _)| name.starts_with(b"user.")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(user(&entry.capture(&Owners::default()).unwrap().metadata.xattrs), expected);
    let file = entry.open().unwrap();
    assert_eq!(user(&file.capture(&Owners::default()).unwrap().metadata.xattrs), expected);
}
