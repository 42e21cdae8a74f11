//! The config of a repository: who it is, whether it is encrypted, how files are cut.
//!
//! One object, `config`, the same on every target, never silently replaced. Anyone can tell a good one from a bad one (its envelope);
//! whoever opened a key also knows that nobody changed it who has no password ([`Config::authenticate`]).
//! FORMAT.md, config.

use crate::chunk::ChunkSizes;
use crate::codec::Decoder;
use crate::envelope::{Envelope, EnvelopeKind, EnvelopeWriter, Field, FieldNumber, Known, Unknown};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{FRAME_RAW_BYTES_DEFAULT, FRAME_RAW_BYTES_MAX};
use crate::id::RepositoryId;
use crate::metadata::Timestamp;
use crate::pack::{PACK_BYTES_DEFAULT, PACK_BYTES_MAX};
use crate::seal::{Cipher, newer};
use crate::secret::{Epoch, Purpose, Secrets};

const REPOSITORY: FieldNumber = FieldNumber(1);
const EPOCH: FieldNumber = FieldNumber(2);
const MODE: FieldNumber = FieldNumber(3);
const CHUNKING: FieldNumber = FieldNumber(4);
const FRAME_BYTES: FieldNumber = FieldNumber(5);
const PACK_BYTES: FieldNumber = FieldNumber(6);
const CREATED: FieldNumber = FieldNumber(7);
const SECRETS: FieldNumber = FieldNumber(8);
const MAC: FieldNumber = FieldNumber::MAX;

const MAC_BYTES: usize = 32;
/// The smallest pack or frame size that can be configured, in bytes: below, headers and seals outweigh the data.
const SIZE_BYTES_MIN: u32 = 4 << 10;
/// The largest pack size that can be configured: half of what a pack may be, as its tables of contents are not counted.
const PACK_BYTES_CONFIGURED_MAX: u32 = 128 << 20;
const _: () = assert!((PACK_BYTES_CONFIGURED_MAX as u64) < PACK_BYTES_MAX / 2);

/// How files are cut: the kind in the config. FastCDC of 2020, gear table from the secret, normalisation level 2.
const CHUNKING_FASTCDC: u8 = 1;

/// Whether a repository is encrypted. The numbers are a part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Mode {
    /// Its secrets are in key objects, under passwords.
    Encrypted = 1,
    /// Its secrets are in clear in its config: anyone who can read a target can read everything.
    Unencrypted = 2,
}

impl Mode {
    /// How new objects are sealed.
    pub const fn cipher(self) -> Cipher {
        match self {
            Self::Encrypted => Cipher::ChaCha20Poly1305,
            Self::Unencrypted => Cipher::None,
        }
    }
}

/// What a repository is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which repository this is, on each of its targets.
    pub repository: RepositoryId,
    /// The epoch under whose secret new objects are sealed.
    pub epoch: Epoch,
    /// Whether it is encrypted.
    pub mode: Mode,
    /// How long chunks are.
    pub chunk_sizes: ChunkSizes,
    /// The raw size at which a frame is full, in bytes.
    pub frame_bytes: u32,
    /// The size at which a pack is full, in bytes.
    pub pack_bytes: u32,
    /// When it was made.
    pub created: Timestamp,
}

/// A config that was read, and the secrets in it.
#[derive(Clone, Debug)]
pub struct ConfigObject {
    /// What the repository is.
    pub config: Config,
    /// Its secrets, if it is not encrypted; [`Config::authenticate`] has been done with them then.
    pub secrets: Option<Secrets>,
    mac: [u8; MAC_BYTES],
    /// What the MAC covers.
    covered: Vec<u8>,
}

impl Config {
    /// A new repository with a random id and today's defaults.
    ///
    /// # Errors
    /// Local, if the system has no randomness to give.
    pub fn new(mode: Mode, created: Timestamp) -> Result<Self> {
        Ok(Self {
            repository: RepositoryId::random()?,
            epoch: Epoch::FIRST,
            mode,
            chunk_sizes: ChunkSizes::DEFAULT,
            frame_bytes: FRAME_RAW_BYTES_DEFAULT,
            pack_bytes: PACK_BYTES_DEFAULT,
            created,
        })
    }

    /// Succeeds if the sizes are ones that this program can work with.
    ///
    /// # Errors
    /// Invalid argument, naming the one that is not.
    pub fn check(&self) -> Result<()> {
        let bad = |what: &str, bytes: u32, max: u32| {
            Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{what} of {bytes} bytes: {SIZE_BYTES_MIN} to {max} are possible"),
            ))
        };
        if !(SIZE_BYTES_MIN..=FRAME_RAW_BYTES_MAX).contains(&self.frame_bytes) {
            return bad("frames", self.frame_bytes, FRAME_RAW_BYTES_MAX);
        }
        if !(SIZE_BYTES_MIN..=PACK_BYTES_CONFIGURED_MAX).contains(&self.pack_bytes) {
            return bad("packs", self.pack_bytes, PACK_BYTES_CONFIGURED_MAX);
        }
        Ok(())
    }

    /// The object's bytes. Those of an unencrypted repository hold its secrets.
    ///
    /// # Errors
    /// Invalid argument if a size is out of bounds; not the same, if `secrets` lack those of the epoch.
    pub fn encode(&self, secrets: &Secrets) -> Result<Vec<u8>> {
        self.check()?;
        secrets.of_epoch(self.epoch, Purpose::Pack)?;
        let sizes = &self.chunk_sizes;
        let mut chunking = vec![CHUNKING_FASTCDC];
        for bytes in [sizes.min(), sizes.average(), sizes.max()] {
            chunking.extend_from_slice(&bytes.to_le_bytes());
        }
        let mut writer = EnvelopeWriter::new(EnvelopeKind::Config);
        writer
            .field(REPOSITORY, Unknown::Refuse, self.repository.as_bytes())
            .field(EPOCH, Unknown::Refuse, &self.epoch.number().to_le_bytes())
            .field(MODE, Unknown::Refuse, &[self.mode as u8])
            .field(CHUNKING, Unknown::Refuse, &chunking)
            .field(FRAME_BYTES, Unknown::Refuse, &self.frame_bytes.to_le_bytes())
            .field(PACK_BYTES, Unknown::Refuse, &self.pack_bytes.to_le_bytes())
            .field(CREATED, Unknown::PassOver, &encode_time(self.created));
        if self.mode == Mode::Unencrypted {
            writer.field(SECRETS, Unknown::Refuse, &secrets.encode());
        }
        writer.last_field(MAC, Unknown::Refuse, MAC_BYTES, |before| {
            secrets.of_master(Purpose::ConfigMac).hash(&[before]).to_vec()
        });
        Ok(writer.finish())
    }

    /// The config with these bytes.
    ///
    /// # Errors
    /// Damage; newer format; not the same, if an unencrypted one does not go with the secrets in it.
    pub fn decode(bytes: &[u8]) -> Result<ConfigObject> {
        let envelope = Envelope::decode(EnvelopeKind::Config, bytes)?;
        let mut read = Fields::default();
        envelope.fields(|field| read.take(field))?;
        let object = read.finish().map_err(|error| error.at("config"))?;
        if let Some(secrets) = &object.secrets {
            object.authenticate(secrets)?;
        }
        Ok(object)
    }
}

impl ConfigObject {
    /// Succeeds if this config was written by someone who has these secrets, and goes with them.
    ///
    /// # Errors
    /// Not the same, if not: someone without a password changed it, or it belongs to another repository.
    pub fn authenticate(&self, secrets: &Secrets) -> Result<()> {
        let mac = secrets.of_master(Purpose::ConfigMac).hash(&[&self.covered]);
        if blake3::Hash::from_bytes(mac) == blake3::Hash::from_bytes(self.mac) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::NotTheSame,
            format!(
                "config of repository {}: it does not go with this repository's secrets: it is another's, or was changed by someone without a password",
                self.config.repository
            ),
        ))
    }
}

#[derive(Default)]
struct Fields {
    repository: Option<RepositoryId>,
    epoch: Option<Epoch>,
    mode: Option<Mode>,
    chunk_sizes: Option<ChunkSizes>,
    frame_bytes: Option<u32>,
    pack_bytes: Option<u32>,
    created: Option<Timestamp>,
    secrets: Option<Secrets>,
    mac: Option<([u8; MAC_BYTES], Vec<u8>)>,
}

impl Fields {
    fn take(&mut self, field: Field<'_>) -> Result<Known> {
        match field.number {
            REPOSITORY => self.repository = Some(RepositoryId::from_bytes(field.array("repository id")?)),
            EPOCH => {
                let number = u32::from_le_bytes(field.array("epoch")?);
                self.epoch = Some(Epoch::new(number).ok_or_else(|| Error::damage("epoch 0 is none"))?);
            }
            MODE => {
                let [mode] = field.array("mode")?;
                self.mode = Some(match mode {
                    1 => Mode::Encrypted,
                    2 => Mode::Unencrypted,
                    0 => return Err(Error::damage("mode 0 is none")),
                    _ => return Err(newer(format!("mode {mode}"))),
                });
            }
            CHUNKING => self.chunk_sizes = Some(decode_chunking(field.decoder())?),
            FRAME_BYTES => self.frame_bytes = Some(u32::from_le_bytes(field.array("size of frames")?)),
            PACK_BYTES => self.pack_bytes = Some(u32::from_le_bytes(field.array("size of packs")?)),
            CREATED => self.created = Some(decode_time(field.decoder())?),
            SECRETS => self.secrets = Some(Secrets::decode(field.value)?),
            MAC => self.mac = Some((field.array("MAC")?, field.before.to_vec())),
            _ => return Ok(Known::No),
        }
        Ok(Known::Yes)
    }

    fn finish(self) -> Result<ConfigObject> {
        fn need<T>(value: Option<T>, what: &str) -> Result<T> {
            value.ok_or_else(|| Error::damage(format!("{what} is missing")))
        }
        let (mac, covered) = need(self.mac, "the MAC")?;
        let config = Config {
            repository: need(self.repository, "the repository id")?,
            epoch: need(self.epoch, "the epoch")?,
            mode: need(self.mode, "the mode")?,
            chunk_sizes: need(self.chunk_sizes, "the sizes of chunks")?,
            frame_bytes: need(self.frame_bytes, "the size of frames")?,
            pack_bytes: need(self.pack_bytes, "the size of packs")?,
            created: need(self.created, "the time of creation")?,
        };
        config.check().map_err(|error| error.with_kind(ErrorKind::Damage))?;
        if self.secrets.is_some() != (config.mode == Mode::Unencrypted) {
            return Err(Error::damage(
                "secrets stand in the config of an unencrypted repository, and of no other",
            ));
        }
        Ok(ConfigObject { config, secrets: self.secrets, mac, covered })
    }
}

fn decode_chunking(mut decoder: Decoder<'_>) -> Result<ChunkSizes> {
    match decoder.u8("kind of chunking")? {
        CHUNKING_FASTCDC => {}
        0 => return Err(Error::damage("kind 0 of chunking is none")),
        kind => return Err(newer(format!("kind {kind} of chunking"))),
    }
    let (min, average, max) = (decoder.u32("least")?, decoder.u32("average")?, decoder.u32("greatest")?);
    decoder.finish("sizes of chunks")?;
    ChunkSizes::new(min, average, max).map_err(|error| error.with_kind(ErrorKind::Damage))
}

/// A time in an envelope: seconds (signed), nanoseconds.
pub(crate) fn encode_time(time: Timestamp) -> [u8; 12] {
    let mut out = [0; 12];
    let (seconds, nanoseconds) = out.split_at_mut(8);
    seconds.copy_from_slice(&time.seconds.to_le_bytes());
    nanoseconds.copy_from_slice(&time.nanoseconds.to_le_bytes());
    out
}

/// The time that [`encode_time`] wrote.
pub(crate) fn decode_time(mut decoder: Decoder<'_>) -> Result<Timestamp> {
    let seconds = i64::from_le_bytes(decoder.array("seconds")?);
    let nanoseconds = decoder.u32("nanoseconds")?;
    decoder.finish("time")?;
    if nanoseconds > 999_999_999 {
        return Err(Error::damage(format!("time: {nanoseconds} nanoseconds")));
    }
    Ok(Timestamp { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{other_secrets, renew_hash, secrets};
    use proptest::prelude::*;

    fn config(mode: Mode) -> Config {
        Config {
            repository: RepositoryId::from_bytes([0xab; 16]),
            epoch: Epoch::FIRST,
            mode,
            chunk_sizes: ChunkSizes::DEFAULT,
            frame_bytes: FRAME_RAW_BYTES_DEFAULT,
            pack_bytes: PACK_BYTES_DEFAULT,
            created: Timestamp { seconds: -1, nanoseconds: 5 },
        }
    }

    #[test]
    fn a_config_comes_back() {
        for mode in [Mode::Encrypted, Mode::Unencrypted] {
            let config = config(mode);
            let read = Config::decode(&config.encode(&secrets()).unwrap()).unwrap();
            assert_eq!(read.config, config);
            assert_eq!(read.secrets, (mode == Mode::Unencrypted).then(secrets));
            read.authenticate(&secrets()).unwrap();
            assert_eq!(read.authenticate(&other_secrets()).unwrap_err().kind(), ErrorKind::NotTheSame);
        }
    }

    #[test]
    fn an_encrypted_config_holds_no_secret() {
        let bytes = config(Mode::Encrypted).encode(&secrets()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == [0x11; 8] || window == [0x22; 8]));
    }

    #[test]
    fn each_flipped_byte_and_each_cut_is_damage() {
        for mode in [Mode::Encrypted, Mode::Unencrypted] {
            let good = config(mode).encode(&secrets()).unwrap();
            for index in 0..good.len() {
                for flip in [1, 2, 0x80, 0xff] {
                    let mut bad = good.clone();
                    bad[index] ^= flip;
                    assert_eq!(Config::decode(&bad).unwrap_err().kind(), ErrorKind::Damage, "byte {index}");
                }
                assert_eq!(Config::decode(&good[..index]).unwrap_err().kind(), ErrorKind::Damage);
            }
        }
    }

    /// The config with one byte changed and the hash made right again: what someone without a password can do.
    fn forged(mode: Mode, offset: usize, byte: u8) -> Vec<u8> {
        let mut bytes = config(mode).encode(&secrets()).unwrap();
        bytes[offset] = byte;
        renew_hash(&mut bytes);
        bytes
    }

    #[test]
    fn a_forged_config_is_never_believed() {
        for mode in [Mode::Encrypted, Mode::Unencrypted] {
            let length = config(mode).encode(&secrets()).unwrap().len();
            for offset in 0..length - 32 {
                for flip in [1, 4] {
                    let byte = config(mode).encode(&secrets()).unwrap()[offset] ^ flip;
                    let believed = Config::decode(&forged(mode, offset, byte))
                        .and_then(|read| read.authenticate(&secrets()));
                    assert!(believed.is_err(), "byte {offset}");
                }
            }
        }
    }

    #[test]
    fn newer_configs_say_so() {
        let bytes = config(Mode::Encrypted).encode(&secrets()).unwrap();
        // Tag, length, value of: id (18), epoch (6), mode (3), chunking.
        let mode = 24 + 18 + 6 + 2;
        assert_eq!(bytes[mode], Mode::Encrypted as u8);
        assert_eq!(bytes[mode + 3], CHUNKING_FASTCDC);
        for (offset, byte, kind) in [
            (8, 2, ErrorKind::NewerFormat),
            (12, 1, ErrorKind::NewerFormat),
            (mode, 3, ErrorKind::NewerFormat),
            (mode, 0, ErrorKind::Damage),
            (mode, 2, ErrorKind::Damage),
            (mode + 3, 2, ErrorKind::NewerFormat),
            (mode + 3, 0, ErrorKind::Damage),
            (mode + 4, 1, ErrorKind::Damage),
            (24 + 20, 0, ErrorKind::Damage),
        ] {
            let error = Config::decode(&forged(Mode::Encrypted, offset, byte)).unwrap_err();
            assert_eq!(error.kind(), kind, "{offset}: {error}");
        }
    }

    #[test]
    fn sizes_out_of_bounds_are_refused() {
        for (frame_bytes, pack_bytes) in
            [(0, 1 << 20), (FRAME_RAW_BYTES_MAX + 1, 1 << 20), (1 << 20, 0), (1 << 20, u32::MAX)]
        {
            let config = Config { frame_bytes, pack_bytes, ..config(Mode::Encrypted) };
            assert_eq!(config.encode(&secrets()).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        let epoch = Epoch::new(2).unwrap();
        let config = Config { epoch, ..config(Mode::Encrypted) };
        assert_eq!(config.encode(&secrets()).unwrap_err().kind(), ErrorKind::NotTheSame);
        assert_eq!(
            Config::new(Mode::Encrypted, Timestamp::default()).unwrap().check().map_err(|e| e.kind()),
            Ok(())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_config_comes_back(
            id in any::<[u8; 16]>(), unencrypted in any::<bool>(), min in 32u32..512, average in 10u32..22, more in 0u32..1000,
            frame_bytes in SIZE_BYTES_MIN..FRAME_RAW_BYTES_MAX, pack_bytes in SIZE_BYTES_MIN..PACK_BYTES_CONFIGURED_MAX,
            seconds in any::<i64>(), nanoseconds in 0u32..1_000_000_000,
        ) {
            let average = 1 << average;
            let config = Config {
                repository: RepositoryId::from_bytes(id), epoch: Epoch::FIRST,
                mode: if unencrypted { Mode::Unencrypted } else { Mode::Encrypted },
                chunk_sizes: ChunkSizes::new(min * 2, average, average + 2 * more).unwrap(),
                frame_bytes, pack_bytes, created: Timestamp { seconds, nanoseconds },
            };
            prop_assert_eq!(Config::decode(&config.encode(&secrets()).unwrap()).unwrap().config, config);
        }
    }
}
