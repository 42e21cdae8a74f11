//! Where the password comes from.
//!
//! In this order: `--password-file` or `--password-command`; one of `VERSIONS_PASSWORD`, `VERSIONS_PASSWORD_FILE`,
//! `VERSIONS_PASSWORD_COMMAND`, two of them at once being a mistake that is said; a prompt, if there is a terminal. A line's
//! end behind the password does not belong to it, other blanks do. An empty password is refused: whoever wants no encryption
//! says `--insecure-no-password`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::render::path::show_path;

/// A password's bytes, wiped from memory when they are no longer needed.
pub(crate) type Password = Zeroizing<Vec<u8>>;

/// A file longer than this is no password but a mistake.
const PASSWORD_BYTES_MAX: usize = 64 * 1024;

/// Where the password is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// There is none, by choice.
    None,
    /// In the environment.
    Variable(OsString),
    /// In a file.
    File(PathBuf),
    /// From a command that the shell runs.
    Command(OsString),
    /// From the person at the terminal.
    Prompt,
}

impl Source {
    /// Chooses by flags, then by environment.
    ///
    /// # Errors
    /// If the environment names two sources.
    pub(crate) fn choose(
        insecure_no_password: bool,
        file: Option<&Path>,
        command: Option<&str>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Failure> {
        if insecure_no_password {
            return Ok(Self::None);
        }
        if let Some(file) = file {
            return Ok(Self::File(file.to_owned()));
        }
        if let Some(command) = command {
            return Ok(Self::Command(command.into()));
        }
        let mut found = None;
        for (name, source) in [
            ("VERSIONS_PASSWORD", Self::Variable as fn(OsString) -> Self),
            ("VERSIONS_PASSWORD_FILE", |file| Self::File(file.into())),
            ("VERSIONS_PASSWORD_COMMAND", Self::Command),
        ] {
            // A variable that is set to nothing is how scripts take one back.
            let Some(value) = environment(name).filter(|value| !value.is_empty()) else { continue };
            if let Some((other, _)) = found {
                return Err(Failure::Usage(format!(
                    "{other} and {name} are both set: which of them gives the password? Unset one."
                )));
            }
            found = Some((name, source(value)));
        }
        Ok(found.map_or(Self::Prompt, |(_, source)| source))
    }

    /// Gets the password, asking `prompt` where a person must be asked; `None` where there is to be none.
    ///
    /// # Errors
    /// If it cannot be had, or is empty.
    pub(crate) fn get(&self, prompt: &str) -> Result<Option<Password>, Failure> {
        let password = match self {
            Self::None => return Ok(None),
            Self::Variable(value) => Zeroizing::new(value.as_encoded_bytes().to_vec()),
            Self::File(file) => read_file(file)?,
            Self::Command(command) => run(command)?,
            Self::Prompt => ask(prompt)?,
        };
        checked(password).map(Some)
    }

    /// Gets the password of something new: a person is asked twice, so that a slip of the finger locks nobody out.
    ///
    /// # Errors
    /// If it cannot be had, is empty, or the second differs from the first.
    pub(crate) fn get_new(&self, prompt: &str) -> Result<Option<Password>, Failure> {
        let first = self.get(prompt)?;
        if matches!(self, Self::Prompt) && first != Some(ask("enter the password again: ")?) {
            return Err(Failure::Usage("the passwords differ: nothing was changed; try again".into()));
        }
        Ok(first)
    }
}

fn checked(mut password: Password) -> Result<Password, Failure> {
    if password.last() == Some(&b'\n') {
        password.pop();
        if password.last() == Some(&b'\r') {
            password.pop();
        }
    }
    if password.is_empty() {
        return Err(Failure::Usage(
            "the password is empty: give one, or say --insecure-no-password for a repository without encryption".into(),
        ));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Failure::Usage(format!(
            "the password is longer than {PASSWORD_BYTES_MAX} bytes: is it the right file?"
        )));
    }
    Ok(password)
}

fn read_file(file: &Path) -> Result<Password, Failure> {
    use std::io::Read;
    let mut password = Zeroizing::new(Vec::new());
    // One byte more than allowed tells a long file from one that just fits, and a device without end does no harm.
    let limit = PASSWORD_BYTES_MAX as u64 + 3;
    fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut password)).map_err(|error| {
        Failure::Usage(format!("the password file {} cannot be read: {error}", show_path(file)))
    })?;
    Ok(password)
}

fn run(command: &OsString) -> Result<Password, Failure> {
    let failed =
        |what: String| Failure::Usage(format!("the password command {:?} {what}", command.to_string_lossy()));
    let output = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    let password = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(failed(format!("failed: {}", output.status)));
    }
    Ok(password)
}

/// Whether there is a person to ask.
pub(crate) fn can_ask() -> bool {
    io::stderr().is_terminal() || io::stdin().is_terminal()
}

/// Asks the person at the terminal; the answer may be empty.
///
/// # Errors
/// If there is none, or the terminal fails.
pub(crate) fn ask(prompt: &str) -> Result<Password, Failure> {
    if !can_ask() {
        return Err(Failure::Usage(
            "no password was given, and there is no terminal to ask on: set VERSIONS_PASSWORD_FILE, VERSIONS_PASSWORD_COMMAND \
             or VERSIONS_PASSWORD, or say --password-file"
                .into(),
        ));
    }
    match rpassword::prompt_password(prompt) {
        Ok(password) => Ok(Zeroizing::new(password.into_bytes())),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Failure::Interrupted),
        Err(error) => Err(Failure::Usage(format!("the password cannot be read from the terminal: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(file: Option<&str>, command: Option<&str>, set: &[(&str, &str)]) -> Result<Source, Failure> {
        Source::choose(false, file.map(Path::new), command, |name| {
            set.iter().find(|(set, _)| *set == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn flags_win_over_the_environment() {
        let set = [("VERSIONS_PASSWORD", "p"), ("VERSIONS_PASSWORD_COMMAND", "c")];
        assert_eq!(choose(Some("f"), None, &set).unwrap(), Source::File("f".into()));
        assert_eq!(choose(None, Some("c"), &set).unwrap(), Source::Command("c".into()));
        assert_eq!(Source::choose(true, None, None, |_| Some("x".into())).unwrap(), Source::None);
    }

    #[test]
    fn the_environment_names_one_source() {
        assert_eq!(choose(None, None, &[]).unwrap(), Source::Prompt);
        assert_eq!(choose(None, None, &[("VERSIONS_PASSWORD", "")]).unwrap(), Source::Prompt);
        assert_eq!(choose(None, None, &[("VERSIONS_PASSWORD", "p")]).unwrap(), Source::Variable("p".into()));
        let error =
            choose(None, None, &[("VERSIONS_PASSWORD", "p"), ("VERSIONS_PASSWORD_FILE", "f")]).unwrap_err();
        assert!(error.to_string().contains("VERSIONS_PASSWORD and VERSIONS_PASSWORD_FILE"), "{error}");
    }

    #[test]
    fn one_line_end_is_cut_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        for (bytes, password) in
            [(&b"a b \n"[..], &b"a b "[..]), (b"a\r\n", b"a"), (b"a\n\n", b"a\n"), (b"\xff", b"\xff")]
        {
            fs::write(&file, bytes).unwrap();
            assert_eq!(&**Source::File(file.clone()).get("").unwrap().unwrap(), password);
        }
        for bad in [&b""[..], b"\n", &[b'x'; PASSWORD_BYTES_MAX + 1]] {
            fs::write(&file, bad).unwrap();
            assert!(Source::File(file.clone()).get("").is_err());
        }
        let error = Source::File(folder.path().join("none")).get("").unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }

    #[test]
    fn a_command_prints_the_password() {
        let password = Source::Command("echo 'a b'".into()).get("").unwrap().unwrap();
        assert_eq!(&**password, b"a b");
        let error = Source::Command("echo secret; exit 3".into()).get("").unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && !error.contains("secret\n"), "{error}");
        assert!(Source::Command("true".into()).get("").is_err());
    }
}
